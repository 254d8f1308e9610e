package record

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestIDsSortByTimeOfReceipt(t *testing.T) {
	base := time.Date(2026, 3, 14, 9, 12, 3, 0, time.UTC)
	var ids []ID
	for i := range 1000 {
		ids = append(ids, NewID(base.Add(time.Duration(i/100)*time.Millisecond)))
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
		if got, want := id.Time(), base.Add(time.Duration(i/100)*time.Millisecond); !got.Equal(want) {
			t.Fatalf("id %d is of %v, not %v", i, got, want)
		}
	}
	if !slices.IsSorted(texts) || !slices.IsSortedFunc(ids, ID.Compare) {
		t.Fatal("ids made in one order sort in another")
	}
}

func TestIDsAreUniqueUnderConcurrency(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	seen := map[ID]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				id := NewID(now)
				mu.Lock()
				if seen[id] {
					t.Errorf("%s twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestParseIDTakesTheCanonicalFormOnly(t *testing.T) {
	id := NewID(time.Now())
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Fatalf("ParseID(%s) = %s, %v", id, got, err)
	}
	for _, bad := range []string{"", "x", strings.ToLower(id.String()), id.String() + "0", id.String()[1:], strings.Repeat("U", 26), strings.Repeat("Z", 26)} {
		if _, err := ParseID(bad); !errors.Is(err, ErrID) {
			t.Errorf("ParseID(%q) = %v, not ErrID", bad, err)
		}
	}
}

// A clock can be set to anything.
func TestIDsOfAnyClock(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), time.Unix(1<<62, 0)} {
		a, b := NewID(at), NewID(at)
		if a.Compare(b) >= 0 || a.Time().Year() != 1970 {
			t.Errorf("at %v: %s, then %s", at, a, b)
		}
	}
}

func TestParseDigestTakesTheCanonicalFormOnly(t *testing.T) {
	d := Sum([]byte("x"))
	if got, err := ParseDigest(d.String()); err != nil || got != d {
		t.Fatalf("ParseDigest(%s) = %s, %v", d, got, err)
	}
	for _, bad := range []string{"", strings.ToUpper(d.String()), d.String()[1:], d.String() + "00", strings.Repeat("g", 64)} {
		if _, err := ParseDigest(bad); !errors.Is(err, ErrDigest) {
			t.Errorf("ParseDigest(%q) = %v, not ErrDigest", bad, err)
		}
	}
}

func TestSealIsTheDigestOfTheDigests(t *testing.T) {
	a, b := Sum([]byte("message")), Sum([]byte("envelope"))
	if got, want := SealOf(a, b), Digest(sha256.Sum256(append(a[:], b[:]...))); got != want {
		t.Fatalf("seal %s, want %s", got, want)
	}
	if SealOf(a, b) == SealOf(b, a) {
		t.Fatal("the order of the parts does not matter to the seal")
	}
}

// The JSON of these documents is read for decades: this test fails when a name or a form changes.
func TestDocumentsKeepTheirForm(t *testing.T) {
	id, _ := ParseID("01KAT3Q0V5X8J2M4N6P7R9S1TC")
	at := time.Date(2026, 3, 14, 9, 12, 3, 5e6, time.UTC)
	for _, c := range []struct {
		doc  any
		want string
	}{
		{Envelope{V: 1, ID: id, Received: at, Node: "main", Source: SourceSMTP, Listener: "relay", Mode: ModeRelay, Session: "s1",
			Client: &Client{Address: "10.0.0.8", Port: 4711, Helo: "mail.acme.example", ESMTP: true}, TLS: &TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
			Completeness: Full, MailFrom: &Path{Address: "a@x.example"}, Rcpt: []Path{{Address: "b@y.example", Notify: "NEVER"}}, Body: "8BITMIME", Size: 5, BareLF: 1},
			`{"v":1,"id":"01KAT3Q0V5X8J2M4N6P7R9S1TC","nonce":"00000000000000000000000000000000","received":"2026-03-14T09:12:03.005Z","node":"main","source":"smtp",` +
				`"listener":"relay","mode":"relay","session":"s1","client":{"address":"10.0.0.8","port":4711,"helo":"mail.acme.example","esmtp":true},` +
				`"tls":{"version":"1.3","cipher":"TLS_AES_128_GCM_SHA256"},"envelope":"full","mail_from":{"address":"a@x.example"},` +
				`"rcpt":[{"address":"b@y.example","notify":"NEVER"}],"body":"8BITMIME","size":5,"sha256":"` + strings.Repeat("0", 64) + `","bare_lf":1}`},
		{Envelope{V: 1, ID: id, Received: at, Node: "main", Source: SourceSMTP, Listener: "journal", Mode: ModeJournal, Completeness: Full,
			MailFrom: &Path{Address: "a@x.example"}, Rcpt: []Path{{Address: "b@y.example"}}, Size: 9,
			Transport: &Transport{MailFrom: &Path{}, Rcpt: []Path{{Address: "journal@archive.example"}}},
			Report: &Report{Format: "exchange", Sender: "a@x.example", OnBehalfOf: "c@x.example", Subject: "s", MessageID: "m@x", Label: "l", Mailbox: "g",
				SentUTC: "1/1/2026 1:00:00 AM", ReceivedUTC: "1/1/2026 1:00:01 AM", Named: 2, Lines: []string{"x: y"}, Problem: "p", Operation: "o",
				Recipients: []ReportRecipient{{Address: "b@y.example", Class: "to", Expanded: "dl@x.example", Forwarded: "f@x.example", Inferred: BccOrList}},
				Enclosed:   []Enclosed{{Role: RoleClear, Offset: 1, Length: 2, Encoding: "base64", Size: 3, MessageID: "m@x"}}, Others: 3}},
			`{"v":1,"id":"01KAT3Q0V5X8J2M4N6P7R9S1TC","nonce":"00000000000000000000000000000000","received":"2026-03-14T09:12:03.005Z","node":"main","source":"smtp",` +
				`"listener":"journal","mode":"journal","envelope":"full","mail_from":{"address":"a@x.example"},"rcpt":[{"address":"b@y.example"}],` +
				`"transport":{"mail_from":{"address":""},"rcpt":[{"address":"journal@archive.example"}]},` +
				`"report":{"format":"exchange","problem":"p","sender":"a@x.example","on_behalf_of":"c@x.example","subject":"s","message_id":"m@x","label":"l","mailbox":"g",` +
				`"sent_utc":"1/1/2026 1:00:00 AM","received_utc":"1/1/2026 1:00:01 AM","operation":"o",` +
				`"recipients":[{"address":"b@y.example","class":"to","expanded":"dl@x.example","forwarded":"f@x.example","inferred":"bcc_or_list"}],"named":2,"lines":["x: y"],` +
				`"enclosed":[{"role":"clear","offset":1,"length":2,"encoding":"base64","size":3,"sha256":"` + strings.Repeat("0", 64) + `","message_id":"m@x"}],"others":3},` +
				`"size":9,"sha256":"` + strings.Repeat("0", 64) + `"}`},
		{Supplement{V: 1, ID: id, Name: "delivery-1", Time: at, Delivery: &Delivery{Outcome: Refused, NextHop: "mx:25", Attempts: 1,
			Recipients: []RecipientDelivery{{Address: "b@y.example", Outcome: Refused, Code: 550, Enhanced: "5.1.1", Text: "no such user", Time: at}}}},
			`{"v":1,"id":"01KAT3Q0V5X8J2M4N6P7R9S1TC","name":"delivery-1","nonce":"00000000000000000000000000000000","time":"2026-03-14T09:12:03.005Z",` +
				`"delivery":{"outcome":"refused","next_hop":"mx:25","attempts":1,"recipients":[{"address":"b@y.example","outcome":"refused","code":550,` +
				`"enhanced":"5.1.1","text":"no such user","time":"2026-03-14T09:12:03.005Z"}]}}`},
		{Supplement{V: 1, ID: id, Name: "auth", Time: at, Auth: &Verdicts{
			SPF:  []SPFVerdict{{Identity: SPFMailFrom, Domain: "x.example", Result: "pass", Reason: "matched ip"}},
			DKIM: []DKIMVerdict{{Result: "fail", Domain: "x.example", Selector: "s", Identity: "@x.example", Algorithm: "rsa-sha256", Bits: 2048, Testing: true, Reason: "r"}}, DKIMMore: 3,
			DMARC: &DMARCVerdict{Result: "pass", From: "m.x.example", Organization: "x.example", Record: "x.example", Policy: "reject", SPFAligned: true, DKIMAligned: true, Reason: "r"},
			ARC:   &ARCVerdict{Result: "fail", Sealed: []string{"y.example"}, Reason: "r"},
			DNS:   []DNSAnswer{{Name: "x.example.", Type: "TXT", Rcode: "NOERROR", AD: true, Answer: []string{"x"}, Server: "127.0.0.1:53", Time: at, Error: "e"}}}},
			`{"v":1,"id":"01KAT3Q0V5X8J2M4N6P7R9S1TC","name":"auth","nonce":"00000000000000000000000000000000","time":"2026-03-14T09:12:03.005Z","auth":{` +
				`"spf":[{"identity":"mailfrom","domain":"x.example","result":"pass","reason":"matched ip"}],"dkim":[{"result":"fail","domain":"x.example",` +
				`"selector":"s","identity":"@x.example","algorithm":"rsa-sha256","bits":2048,"testing":true,"reason":"r"}],"dkim_more":3,"dmarc":{"result":"pass",` +
				`"from":"m.x.example","organization":"x.example","record":"x.example","policy":"reject","spf_aligned":true,"dkim_aligned":true,"reason":"r"},` +
				`"arc":{"result":"fail","sealed":["y.example"],"reason":"r"},"dns":[{"name":"x.example.","type":"TXT","rcode":"NOERROR","ad":true,"answer":["x"],` +
				`"server":"127.0.0.1:53","time":"2026-03-14T09:12:03.005Z","error":"e"}]}}`},
		{Act{V: 1, ID: id, Kind: ActSearch, Time: at, Node: "main", Actor: Actor{ID: "uid:0", Via: "cli"}, Detail: map[string]any{"typed": "x"}},
			`{"v":1,"id":"01KAT3Q0V5X8J2M4N6P7R9S1TC","kind":"search","nonce":"00000000000000000000000000000000","time":"2026-03-14T09:12:03.005Z",` +
				`"node":"main","actor":{"id":"uid:0","via":"cli"},"detail":{"typed":"x"}}`},
		{Entry{V: 1, Kind: KindDropped, Time: at, Drop: &Drop{First: 3, Last: 4, Reason: "never acknowledged"}},
			`{"v":1,"kind":"dropped","time":"2026-03-14T09:12:03.005Z","frame":0,"drop":{"first":3,"last":4,"reason":"never acknowledged"}}`},
	} {
		got, err := json.Marshal(c.doc)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != c.want {
			t.Errorf("%T:\n got %s\nwant %s", c.doc, got, c.want)
		}
		back := reflect.New(reflect.TypeOf(c.doc))
		if err := json.Unmarshal(got, back.Interface()); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back.Elem().Interface(), c.doc) {
			t.Errorf("%T does not come back as it was", c.doc)
		}
	}
}
