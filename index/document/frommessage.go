package document

import (
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// FromMessage makes the document of a record from its envelope and its parsed message; of a journal report, the enclosed one
// (message.Inner). A nil message is one that could not be read at all:
// the document then has what the envelope says, and is Partial. Texts are in UTF-8.
func FromMessage(env *record.Envelope, msg *message.Message) *Document {
	d := &Document{
		ID: env.ID, Report: env.Report != nil, Received: env.Received.UTC(), Size: env.Size, SHA256: env.SHA256, Partial: true, HeaderPartial: true,
	}
	if env.MailFrom != nil && env.MailFrom.Address != "" {
		d.EnvFrom = []Address{{Address: FoldAddress(env.MailFrom.Address)}}
	}
	for _, p := range env.Rcpt {
		d.Rcpt = append(d.Rcpt, Address{Address: FoldAddress(p.Address)})
	}
	d.envelopeFacts(env)
	if msg == nil {
		return d
	}
	h := &msg.Header
	d.Sent = h.Date()
	d.MessageID = h.MessageID()
	d.Subject = h.Subject()
	d.Body = msg.Text
	if msg.Outside != "" {
		d.Body += "\n" + msg.Outside
	}
	d.From = addresses(h.AddressList("From"))
	d.To = addresses(h.AddressList("To"))
	d.Cc = addresses(h.AddressList("Cc"))
	d.Bcc = addresses(h.AddressList("Bcc"))
	for _, p := range msg.Attachments() {
		d.Attachments = append(d.Attachments, Attachment{Name: p.Name, Type: p.Type, Size: p.Size})
	}
	d.AttachmentText = msg.AttachedText
	d.Protected = msg.Protected
	d.HeaderPartial = msg.HeaderPartial
	d.Partial = msg.Partial || msg.Encrypted || msg.HeaderPartial || !env.Report.Covered()
	for _, name := range others {
		d.Others = append(d.Others, addresses(h.AddressList(name))...)
	}
	d.headers(h)
	d.messageFacts(msg)
	return d
}

func addresses(list []message.Address) []Address {
	if len(list) == 0 {
		return nil
	}
	folded := make([]Address, len(list))
	for i, a := range list {
		folded[i] = Address{Name: a.Name, Address: FoldAddress(a.Address)}
	}
	return folded
}
