#!/bin/sh
# Makes the fixtures from the flat OpenDocument files beside it, with LibreOffice (Debian: libreoffice-writer, -calc, -impress). They are
# committed: the tests don't need it.
set -eu
cd "$(dirname "$0")"
for to in docx docm dotx odt rtf doc; do soffice --headless --convert-to $to letter.fodt; done
for to in xlsx ods xls; do soffice --headless --convert-to $to sheet.fods; done
for to in pptx odp ppt; do soffice --headless --convert-to $to slides.fodp; done
./secret.py
