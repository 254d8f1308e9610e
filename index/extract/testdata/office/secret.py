#!/usr/bin/python3
# Makes the fixtures with a password ("geheim"), with LibreOffice (Debian: python3-uno beside what make.sh asks for).
import os, subprocess, tempfile, time, uno
from com.sun.star.beans import NamedValue, PropertyValue

here = os.path.dirname(os.path.abspath(__file__))
pipe = "extract%d" % os.getpid()


def props(**values):
    return tuple(PropertyValue(Name=name, Value=value) for name, value in values.items())


with tempfile.TemporaryDirectory() as profile:
    office = subprocess.Popen(["soffice", "--headless", "--norestore", "-env:UserInstallation=file://" + profile, "--accept=pipe,name=%s;urp;" % pipe])
    try:
        local = uno.getComponentContext()
        resolver = local.ServiceManager.createInstanceWithContext("com.sun.star.bridge.UnoUrlResolver", local)
        for attempt in range(120):
            try:
                context = resolver.resolve("uno:pipe,name=%s;urp;StarOffice.ComponentContext" % pipe)
                break
            except Exception:
                time.sleep(0.5)
        desktop = context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
        for source, target, form in [
            ("letter.fodt", "secret.doc", "MS Word 97"),
            ("letter.fodt", "secret.docx", "MS Word 2007 XML"),
            ("letter.fodt", "secret.odt", "writer8"),
            ("sheet.fods", "secret.xls", "MS Excel 97"),
        ]:
            document = desktop.loadComponentFromURL("file://%s/%s" % (here, source), "_blank", 0, props(Hidden=True))
            key = props(Password="geheim")
            if target.endswith("x"):
                values = (NamedValue("OOXPassword", "geheim"), NamedValue("CryptoType", "Standard"))
                key = props(EncryptionData=uno.Any("[]com.sun.star.beans.NamedValue", values))
            document.storeToURL("file://%s/%s" % (here, target), props(FilterName=form) + key)
            document.close(True)
        desktop.terminate()
        office.wait(30)
    finally:
        office.kill()
