// Package record holds the words that all other packages share: what was received (Envelope), what was learnt later (Supplement), what
// somebody did (Act), and the line that commits to each of them (Entry).
//
// The types here are formats: their JSON stands in packs and ledgers for decades. Every document carries its version V, and a field is
// only ever added. Times are UTC. RECORD.md beside this file describes each document for a reader who has only `tar` and `jq`.
package record

import (
	"encoding/json"
	"time"
)

// Version is the V of every document that this code writes.
const Version = 1

// Modes of a listener, and so of the way a message went.
const (
	ModeRelay   = "relay"   // passed through: the next hop's reply is the client's
	ModeQueue   = "queue"   // stored, then forwarded
	ModeJournal = "journal" // kept, not forwarded
)

// Sources of a record.
const (
	SourceSMTP   = "smtp"
	SourceImport = "import"
	SourceBounce = "bounce" // a notification of ours about the delivery of another record
)

// Completeness says how much of the true envelope is known.
type Completeness string

// The degrees of completeness.
const (
	Full       Completeness = "full"        // the SMTP transaction itself, or a report that names all recipients
	Partial    Completeness = "partial"     // some of the envelope was lost on the way here
	HeaderOnly Completeness = "header_only" // nothing but the message's own header is known
)

// Envelope is what was known of a message when it came into custody. It never changes; what is learnt later is a Supplement.
type Envelope struct {
	V        int       `json:"v"`
	ID       ID        `json:"id"`
	Nonce    Nonce     `json:"nonce"`
	Received time.Time `json:"received"` // UTC: when the last byte had arrived
	Node     string    `json:"node"`
	Source   string    `json:"source"` // SourceSMTP, SourceImport, SourceBounce

	Listener string  `json:"listener,omitempty"` // name from the configuration
	Mode     string  `json:"mode,omitempty"`     // ModeRelay, ModeQueue, ModeJournal; empty for an import
	Session  string  `json:"session,omitempty"`  // stands in the logs too
	Client   *Client `json:"client,omitempty"`   // the true client
	Proxy    *Proxy  `json:"proxy,omitempty"`    // who connected, where that is not the client
	TLS      *TLS    `json:"tls,omitempty"`      // nil: clear text
	Auth     *Auth   `json:"auth,omitempty"`     // nil: not authenticated

	Completeness Completeness `json:"envelope"`
	MailFrom     *Path        `json:"mail_from,omitempty"` // nil: unknown (an import); the null sender has an empty Address
	Rcpt         []Path       `json:"rcpt,omitempty"`      // the recipients that were accepted, in the order given
	Transport    *Transport   `json:"transport,omitempty"` // where MailFrom and Rcpt are a journal report's: the SMTP transaction that brought it
	Report       *Report      `json:"report,omitempty"`    // what a journal report said
	Body         string       `json:"body,omitempty"`      // BODY parameter of MAIL (RFC 6152), upper case
	SMTPUTF8     bool         `json:"smtputf8,omitempty"`  // RFC 6531
	Ret          string       `json:"ret,omitempty"`       // RET of MAIL (RFC 3461)
	EnvID        string       `json:"envid,omitempty"`     // ENVID of MAIL (RFC 3461), decoded
	DeclaredSize int64        `json:"declared_size,omitempty"`

	Size   int64  `json:"size"`   // bytes of message.eml
	SHA256 Digest `json:"sha256"` // of message.eml: the identity of the content
	BareCR int64  `json:"bare_cr,omitempty"`
	BareLF int64  `json:"bare_lf,omitempty"`
	Origin string `json:"origin,omitempty"` // of an import: the file, and the place in it, as the importer named it; of a bounce: the id of the record that it is about
}

// Path is an SMTP forward or reverse path.
type Path struct {
	Address string `json:"address"`          // local@domain, unquoted where the quotes mean nothing; empty: the null sender
	Raw     string `json:"raw,omitempty"`    // as the client wrote it, where that differs from <Address>
	Notify  string `json:"notify,omitempty"` // NOTIFY of RCPT (RFC 3461)
	ORCPT   string `json:"orcpt,omitempty"`  // ORCPT of RCPT (RFC 3461), as given: type;address
}

// Client is who handed the message over.
type Client struct {
	Address string `json:"address"` // IP address
	Port    int    `json:"port,omitempty"`
	Name    string `json:"name,omitempty"` // of the host, as a Proxy gave it; not checked
	Helo    string `json:"helo,omitempty"` // argument of HELO or EHLO, as given
	ESMTP   bool   `json:"esmtp,omitempty"`
}

// Proxy is a server that handed on what a client had sent to it.
type Proxy struct {
	Address string `json:"address"` // IP address
	Port    int    `json:"port,omitempty"`
	By      string `json:"by"`              // how it told of the client: "proxy" (PROXY protocol), "xclient", "xforward"
	Ident   string `json:"ident,omitempty"` // its name for the message (IDENT of XFORWARD)
}

// TLS describes one TLS connection, ours with the client or ours with the next hop.
type TLS struct {
	Version    string `json:"version"` // "1.2", "1.3"
	Cipher     string `json:"cipher"`  // IANA name
	ServerName string `json:"server_name,omitempty"`
	Peer       string `json:"peer,omitempty"`     // subject of the peer's certificate
	Verified   bool   `json:"verified,omitempty"` // the peer's certificate was checked and good
}

// Auth is an SMTP AUTH that succeeded.
type Auth struct {
	Mechanism string `json:"mechanism"`
	Identity  string `json:"identity"`
}

// Outcome is how a delivery ended.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered" // the next hop took responsibility: 2xx after the final dot
	Refused   Outcome = "refused"   // the next hop said no, for now or for good
	Unknown   Outcome = "unknown"   // the final dot may have been sent and nobody knows how it was answered
)

// SupplementAuth is the name of the supplement with the verdicts at receipt.
const SupplementAuth = "auth"

// Supplement is what was learnt of a record after custody. Name is "delivery-<n>" (n counts from 1) or SupplementAuth.
type Supplement struct {
	V        int       `json:"v"`
	ID       ID        `json:"id"` // the record that it belongs to
	Name     string    `json:"name"`
	Nonce    Nonce     `json:"nonce"`
	Time     time.Time `json:"time"`
	Delivery *Delivery `json:"delivery,omitempty"`
	Auth     *Verdicts `json:"auth,omitempty"`
}

// Delivery tells how one attempt at the next hop went.
type Delivery struct {
	Outcome            Outcome             `json:"outcome"`
	ReplyLost          bool                `json:"reply_lost,omitempty"` // the client was gone when the reply came: it may send again
	NextHop            string              `json:"next_hop"`             // as configured
	Address            string              `json:"address,omitempty"`    // the IP address and port that answered
	TLS                *TLS                `json:"tls,omitempty"`
	Attempts           int                 `json:"attempts"`
	SentSize           int64               `json:"sent_size,omitempty"`        // bytes of the copy sent on, with its Received line
	SentSHA256         Digest              `json:"sent_sha256,omitzero"`       // of that copy
	EightBitSentAnyway bool                `json:"eight_bit_anyway,omitempty"` // 8-bit content went to a next hop that does not offer 8BITMIME
	Reason             string              `json:"reason,omitempty"`           // why the outcome is unknown, in words
	Next               time.Time           `json:"next,omitzero"`              // when it is tried again; absent: this is the last word
	Recipients         []RecipientDelivery `json:"recipients"`                 // refused ones included, that Envelope.Rcpt does not name
}

// RecipientDelivery is the next hop's last word on one recipient.
type RecipientDelivery struct {
	Address  string    `json:"address"`
	Outcome  Outcome   `json:"outcome"`
	Code     int       `json:"code,omitempty"`     // SMTP reply code; 0: none came
	Enhanced string    `json:"enhanced,omitempty"` // RFC 3463, "2.0.0"
	Text     string    `json:"text,omitempty"`     // the reply's text, lines joined by a newline
	Time     time.Time `json:"time"`

	// Where these differ from the Delivery's, because another host or connection gave the answer.
	NextHop  string `json:"next_hop,omitempty"`
	Peer     string `json:"peer,omitempty"` // the IP address and port that answered
	TLS      *TLS   `json:"tls,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
}

// Act is something that a person or a schedule did. It is a record of its own: the body is in a pack, the ledger has kind, time, actor's
// id and seal.
type Act struct {
	V      int            `json:"v"`
	ID     ID             `json:"id"`
	Kind   string         `json:"kind"` // Act…
	Nonce  Nonce          `json:"nonce"`
	Time   time.Time      `json:"time"`
	Node   string         `json:"node"`
	Actor  Actor          `json:"actor"`
	Detail map[string]any `json:"detail,omitempty"` // what the act says; keys by kind, in RECORD.md
}

// Into reads what the act says into a struct for its kind. Fields that the struct does not have are passed over: a later version may add some.
func (a *Act) Into(v any) error {
	text, err := json.Marshal(a.Detail)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// Kinds of act.
const (
	ActSearch  = "search"
	ActView    = "view"
	ActImport  = "import"
	ActRebuild = "rebuild"
	ActProbe   = "store-probe"
	ActLock    = "lock-extend"
	ActProof   = "proof"

	ActExport     = "export"
	ActExportDone = "export-done"

	ActQueueView    = "queue-view"
	ActQueueRetry   = "queue-retry"
	ActQueueHold    = "queue-hold"
	ActQueueRelease = "queue-release"
	ActQueueDrop    = "queue-drop"
	ActQueueRecover = "queue-recover"

	// Of the log that all nodes share.
	ActPolicySet      = "policy-set"
	ActPolicyRemove   = "policy-remove"
	ActHoldPlace      = "hold-place"
	ActHoldApply      = "hold-apply"
	ActHoldReleaseAsk = "hold-release-ask"
	ActHoldRelease    = "hold-release"

	ActMatterCreate    = "matter-create"
	ActMatterMember    = "matter-member"
	ActMatterCustodian = "matter-custodian"
	ActMatterSearch    = "matter-search"
	ActTagAdd          = "tag-add"
	ActTagRemove       = "tag-remove"
	ActNoteAdd         = "note-add"
	ActReview          = "review"

	// Of destroying. A tombstone names the ActDestroy by which a pack went.
	ActPurgePlan    = "purge-plan"
	ActPurgeApprove = "purge-approve"
	ActDestroy      = "destroying"
	ActDestroyed    = "destroyed"
	ActEraseAsk     = "erase-ask"
	ActEraseDecide  = "erase-decide"

	// What is looked at.
	ActGovernanceView = "governance-view"
)

// Actor is who did it. ID stands in the ledger in clear, so it is a role account or a number, never a person's name.
type Actor struct {
	ID   string `json:"id"`             // "uid:1000", "web:127.0.0.1", "schedule"
	Name string `json:"name,omitempty"` // in the pack only
	Via  string `json:"via,omitempty"`  // "cli", "socket", "web"
}

// Kind is the kind of a ledger entry.
type Kind string

// The kinds of entry.
const (
	KindInit       Kind = "init"       // the first entry of every log
	KindMessage    Kind = "message"    // envelope and message, with the supplements known by then
	KindRefused    Kind = "refused"    // a refused message of which the envelope alone is kept (keep_refused: envelope)
	KindSupplement Kind = "supplement" // one that came after its record was packed
	KindAct        Kind = "act"
	KindDropped    Kind = "dropped" // sequence numbers that hold nothing, and why

	KindDestroyed Kind = "destroyed" // a pack is gone, by an act: its tombstone
	KindMoved     Kind = "moved"     // a record that lay in a pack that is gone is in another
)

// Entry is one leaf of the Merkle log: one line of JSON without spaces, at most MaxEntry bytes. LEDGER.md in archive/ledger has the format.
type Entry struct {
	V    int       `json:"v"`
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`           // UTC: of receipt, or of the act
	ID   ID        `json:"id,omitzero"`    // the record
	Name string    `json:"name,omitempty"` // a supplement's name, an act's kind
	By   string    `json:"by,omitempty"`   // an act's Actor.ID
	Seq  uint64    `json:"seq,omitempty"`  // spool sequence of its node, from 1; supplements carry none, nor what came too late for its own
	Seal Digest    `json:"seal,omitzero"`  // SealOf

	Pack       string `json:"pack,omitempty"` // object key
	PackSHA256 Digest `json:"pack_sha256,omitzero"`
	Frame      int64  `json:"frame"`            // offset of the frame in the pack's zstd stream (inside age, where encrypted), bytes
	Length     int64  `json:"length,omitempty"` // bytes of that frame

	Drop  *Drop  `json:"drop,omitempty"`
	Init  *Init  `json:"init,omitempty"`
	Gone  *Gone  `json:"gone,omitempty"`  // of KindDestroyed; then ID and By are those of the act
	Moved *Moved `json:"moved,omitempty"` // of KindMoved
}

// Gone is the tombstone of a pack. What its entries speak of was destroyed, but for those that KindMoved entries of the same commit name.
type Gone struct {
	Pack       string `json:"pack"`
	PackSHA256 Digest `json:"pack_sha256"`
	First      uint64 `json:"first"` // the entries of this log that name it
	Last       uint64 `json:"last"`
	Destroyed  uint64 `json:"destroyed"` // how many of their records
}

// Moved says which entry of this log spoke of the record before, and of what kind it is.
type Moved struct {
	Entry uint64 `json:"entry"`
	Kind  Kind   `json:"kind"`
}

// Holds is the kind of the record that an entry speaks of.
func (e *Entry) Holds() Kind {
	if e.Moved != nil {
		return e.Moved.Kind
	}
	return e.Kind
}

// MaxEntry is the most that an entry may take as JSON, in bytes (C2SP tlog-tiles: entries have a 16-bit length).
const MaxEntry = 65535

// Drop accounts for sequence numbers that no record will ever bear.
type Drop struct {
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Reason string `json:"reason"` // "never acknowledged: …", "refused: …"
}

// Init is what an archive was made with.
type Init struct {
	Archive    string   `json:"archive"` // the archive's name for ever: 32 random hexadecimal digits
	Log        string   `json:"log"`
	Key        string   `json:"key"`                  // verifier key of the ledger (golang.org/x/mod/sumdb/note)
	Recipients []string `json:"recipients,omitempty"` // age recipients of the packs; none: clear text
	Escrow     bool     `json:"escrow"`               // a recipient's identity is kept away from the node
	Software   string   `json:"software,omitempty"`
}

// Now is the time that documents are stamped with: in UTC, to the millisecond, like ids. What is finer tells nothing and does not compress.
func Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
