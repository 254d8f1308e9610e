package document

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

const mail = "From: =?utf-8?q?Jos=C3=A9?= <Jose@Acme.COM>\r\n" +
	"To: b@x.test, Team: c@x.test, \"D, E\" <d@x.test>;\r\n" +
	"Cc: info@xn--mnchen-3ya.de\r\nCc: f@x.test\r\nBcc: g@x.test\r\n" +
	"Subject: Quarterly =?iso-8859-1?q?r=E9sum=E9?=\r\n" +
	"Date: Sat, 14 Mar 2026 10:12:01 +0100\r\nMessage-ID: <1@acme.com>\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\n\r\nThe body.\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\nafter the end\r\n"

func TestFromMessage(t *testing.T) {
	at := time.Date(2026, 3, 14, 9, 12, 3, 0, time.UTC)
	env := &record.Envelope{
		ID: record.NewID(at), Received: at, Size: int64(len(mail)), SHA256: record.Sum([]byte(mail)),
		MailFrom: &record.Path{Address: "Bounce@Acme.COM"}, Rcpt: []record.Path{{Address: "B@x.test"}, {Address: "hidden@x.test"}},
	}
	msg, err := message.Parse(strings.NewReader(mail), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Document{
		ID: env.ID, Received: at, Sent: time.Date(2026, 3, 14, 9, 12, 1, 0, time.UTC), Size: env.Size, SHA256: env.SHA256,
		MessageID: "1@acme.com", Subject: "Quarterly résumé", Body: "The body.\n\nafter the end\n",
		From:        []Address{{"José", "jose@acme.com"}},
		To:          []Address{{"", "b@x.test"}, {"", "c@x.test"}, {"D, E", "d@x.test"}},
		Cc:          []Address{{"", "info@münchen.de"}, {"", "f@x.test"}},
		Bcc:         []Address{{"", "g@x.test"}},
		EnvFrom:     []Address{{"", "bounce@acme.com"}},
		Rcpt:        []Address{{"", "b@x.test"}, {"", "hidden@x.test"}},
		Attachments: []Attachment{{"a.pdf", "application/pdf", 3}},
		Facts:       []Fact{{FileType, "pdf"}},
	}
	if got := FromMessage(env, msg); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}

	env.MailFrom = &record.Path{} // the null sender
	d := FromMessage(env, nil)
	if d.EnvFrom != nil || !d.NullSender || !d.Partial || len(d.Rcpt) != 2 || d.Subject != "" {
		t.Errorf("without a message: %+v", d)
	}
}

func TestFromMessageEncrypted(t *testing.T) {
	msg, err := message.Parse(strings.NewReader("Subject: x\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nMIAG\r\n"), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if d := FromMessage(&record.Envelope{}, msg); !d.Partial {
		t.Error("a message whose text nobody here can read was not marked as partial")
	}
}
