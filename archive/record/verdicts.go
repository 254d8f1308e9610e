package record

import "time"

// Verdicts is what the authentication of mail says of one message, as it was at receipt: the supplement "auth". The DNS answers that the
// verdicts rest on stand beside them, so that they can be made again when keys and policies are long gone. Results are the words of
// RFC 8601, section 2.7. They are never a reason to refuse a message.
type Verdicts struct {
	SPF      []SPFVerdict  `json:"spf,omitempty"`       // absent: there was nothing to ask of
	DKIM     []DKIMVerdict `json:"dkim,omitempty"`      // one for each signature, in the order of the header; absent: not signed
	DKIMMore int           `json:"dkim_more,omitempty"` // further signatures, not looked at
	DMARC    *DMARCVerdict `json:"dmarc,omitempty"`
	ARC      *ARCVerdict   `json:"arc,omitempty"` // absent: no ARC fields
	DNS      []DNSAnswer   `json:"dns,omitempty"` // every question that was asked, once, in that order
}

// SPFVerdict is the result of one check_host (RFC 7208).
type SPFVerdict struct {
	Identity string `json:"identity"` // SPFMailFrom, SPFHelo
	Domain   string `json:"domain,omitempty"`
	Result   string `json:"result"` // none, neutral, pass, fail, softfail, temperror, permerror
	Reason   string `json:"reason,omitempty"`
}

// The identities that SPF is asked about.
const (
	SPFMailFrom = "mailfrom"
	SPFHelo     = "helo"
)

// DKIMVerdict is the result of one DKIM-Signature (RFC 6376). All but Result and Reason is what the signature claims.
type DKIMVerdict struct {
	Result    string `json:"result"` // pass, fail, policy, neutral, temperror, permerror
	Domain    string `json:"domain,omitempty"`
	Selector  string `json:"selector,omitempty"`
	Identity  string `json:"identity,omitempty"`  // i=, where it is given
	Algorithm string `json:"algorithm,omitempty"` // "rsa-sha256"
	Bits      int    `json:"bits,omitempty"`      // of the key
	Testing   bool   `json:"testing,omitempty"`   // the key says so: t=y
	Reason    string `json:"reason,omitempty"`
}

// DMARCVerdict is the result of DMARC (RFC 7489) for the domain of the From field.
type DMARCVerdict struct {
	Result       string `json:"result"`                 // none, pass, fail, temperror, permerror
	From         string `json:"from,omitempty"`         // the domain of the From field
	Organization string `json:"organization,omitempty"` // its organizational domain
	Record       string `json:"record,omitempty"`       // the domain whose policy was found
	Policy       string `json:"policy,omitempty"`       // what that policy asks for: none, quarantine, reject
	SPFAligned   bool   `json:"spf_aligned,omitempty"`  // SPF passed, for an aligned domain
	DKIMAligned  bool   `json:"dkim_aligned,omitempty"` // a signature passed, of an aligned domain
	Reason       string `json:"reason,omitempty"`
}

// ARCVerdict is the result of the validation of an ARC chain (RFC 8617, section 5.2).
type ARCVerdict struct {
	Result string   `json:"result"`           // none, pass, fail
	Sealed []string `json:"sealed,omitempty"` // the domain of each seal, the first first
	Reason string   `json:"reason,omitempty"`
}

// DNSAnswer is one question and what was answered, negative answers too.
type DNSAnswer struct {
	Name   string    `json:"name"`             // as asked, with its last dot
	Type   string    `json:"type"`             // "TXT"
	Rcode  string    `json:"rcode,omitempty"`  // "NOERROR", "NXDOMAIN"; empty: no answer came, and Error says why
	AD     bool      `json:"ad,omitempty"`     // the resolver says that it has checked the answer by DNSSEC
	Answer []string  `json:"answer,omitempty"` // the answer section, aliases included, a line a record in presentation format (RFC 1035, section 5)
	Server string    `json:"server,omitempty"` // who answered
	Time   time.Time `json:"time"`             // when: before receipt where the answer was still valid
	Error  string    `json:"error,omitempty"`
}

// VerdictResult is one word of Verdicts.Results.
type VerdictResult struct {
	Kind   string // "spf", "dkim", "dmarc", "arc"
	Result string
}

// Results sums the verdicts up, one word each: of SPF that for MAIL FROM, of DKIM the best.
func (v *Verdicts) Results() []VerdictResult {
	spf, dkim, dmarc, arc := "none", "none", "none", "none"
	for i := len(v.SPF) - 1; i >= 0; i-- { // MAIL FROM comes first
		spf = v.SPF[i].Result
	}
	for i := range v.DKIM {
		if i == 0 || v.DKIM[i].Result == "pass" {
			dkim = v.DKIM[i].Result
		}
	}
	if v.DMARC != nil {
		dmarc = v.DMARC.Result
	}
	if v.ARC != nil {
		arc = v.ARC.Result
	}
	return []VerdictResult{{"spf", spf}, {"dkim", dkim}, {"dmarc", dmarc}, {"arc", arc}}
}
