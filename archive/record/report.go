package record

// Transport is the SMTP transaction that a journal report came with. It tells of the report's own way, not of the message's.
type Transport struct {
	MailFrom *Path  `json:"mail_from,omitempty"`
	Rcpt     []Path `json:"rcpt,omitempty"`
}

// Report is what a journal report said of the message that it is about, as package journal/report read it. The report itself is
// message.eml, or the header of it.
type Report struct {
	Format  string `json:"format"`            // "exchange", "exchange_2003", "google" …: RECORD.md
	Problem string `json:"problem,omitempty"` // why it could not be understood, or not whole

	Sender      string `json:"sender,omitempty"`
	OnBehalfOf  string `json:"on_behalf_of,omitempty"`
	Subject     string `json:"subject,omitempty"`
	MessageID   string `json:"message_id,omitempty"` // as the report says, without angle brackets
	Label       string `json:"label,omitempty"`
	Mailbox     string `json:"mailbox,omitempty"`
	SentUTC     string `json:"sent_utc,omitempty"` // as written
	ReceivedUTC string `json:"received_utc,omitempty"`
	Operation   string `json:"operation,omitempty"` // of an intercept: what the account did

	Recipients []ReportRecipient `json:"recipients,omitempty"`
	Named      int               `json:"named,omitempty"` // how many recipients it names, where Recipients does not have them all
	Lines      []string          `json:"lines,omitempty"` // lines that nobody knows, as they came
	Enclosed   []Enclosed        `json:"enclosed,omitempty"`
	Others     int               `json:"others,omitempty"` // parts that are neither its text nor a message: they are in message.eml only
}

// ReportRecipient is one recipient as a report names him.
type ReportRecipient struct {
	Address   string `json:"address"`
	Class     string `json:"class,omitempty"`     // "to", "cc", "bcc"; "recipient": one that the server could not verify
	Expanded  string `json:"expanded,omitempty"`  // the list that he is a member of
	Forwarded string `json:"forwarded,omitempty"` // the address that was forwarded to him
	Inferred  string `json:"inferred,omitempty"`  // BccOrList: the header of the message does not name him, and no class is known
}

// BccOrList is a conclusion and nothing that the report said.
const BccOrList = "bcc_or_list"

// Enclosed is a message that a report encloses: where it lies in message.eml, and what it is. Without an encoding it is Length bytes of
// message.eml from Offset on.
type Enclosed struct {
	Role      string `json:"role,omitempty"` // RoleEncrypted, RoleClear: of a pair
	Offset    int64  `json:"offset"`         // bytes
	Length    int64  `json:"length"`         // bytes; of an encoded one before decoding
	Encoding  string `json:"encoding,omitempty"`
	Size      int64  `json:"size"`   // bytes, after decoding
	SHA256    Digest `json:"sha256"` // after decoding
	MessageID string `json:"message_id,omitempty"`
}

// Roles of the two messages that a report of rights-managed mail encloses.
const (
	RoleEncrypted = "encrypted" // as it was sent
	RoleClear     = "clear"     // the copy that the server decrypted
)

// Message gives what is to be read and shown of a report: the message that it encloses, the clear one of a pair. nil: none, and
// message.eml is the message itself.
func (r *Report) Message() *Enclosed {
	if r == nil || len(r.Enclosed) == 0 {
		return nil
	}
	for i := range r.Enclosed {
		if r.Enclosed[i].Role == RoleClear {
			return &r.Enclosed[i]
		}
	}
	return &r.Enclosed[0]
}

// Covered says that there is nothing in the report to be read beside its own text and Message: what else it has is in message.eml only.
func (r *Report) Covered() bool {
	if r == nil || len(r.Enclosed) == 0 {
		return true
	}
	for i := range r.Enclosed {
		if r.Enclosed[i].Role == "" && i > 0 {
			return false
		}
	}
	return r.Others == 0
}
