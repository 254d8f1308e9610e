package authres

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres/dnstest"
)

// signer signs with a library that is not this one.
type signer struct {
	key    crypto.Signer
	record string
}

func newSigner(t testing.TB, kind string, bits int) signer {
	t.Helper()
	if kind == "ed25519" {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return signer{key, "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)}
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&key.PublicKey))}
}

func (s signer) sign(t testing.TB, message string, opt dkim.SignOptions) string {
	t.Helper()
	opt.Domain, opt.Selector, opt.Signer = "signer.test", "sel", s.key
	var b bytes.Buffer
	if err := dkim.Sign(&b, strings.NewReader(message), &opt); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkerFor answers questions from records of type TXT.
func checkerFor(t testing.TB, txt map[string]string) (*Checker, *dnstest.Server) {
	t.Helper()
	dns := dnstest.New(t)
	for name, text := range txt {
		dns.Set(name, "TXT", text)
	}
	return NewChecker(NewResolver([]string{dns.Addr})), dns
}

const keyPlace = "sel._domainkey.signer.test"

// The examples of RFC 8463, appendix A: two signatures, Ed25519 and RSA.
func TestRFC8463(t *testing.T) {
	c, _ := checkerFor(t, map[string]string{
		"brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"test._domainkey.football.example.com": "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b" +
			"yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
	})
	message := strings.ReplaceAll(`DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`, "\n", "\r\n")
	v := mustCheck(t, c, testEnvelope(), message)
	if len(v.DKIM) != 2 || v.DKIM[0].Result != "pass" || v.DKIM[1].Result != "pass" || v.DKIM[0].Identity != "@football.example.com" || v.DKIM[1].Bits != 1024 {
		t.Errorf("%+v", v.DKIM)
	}
}

// What another library signs verifies, and what it thinks of altered messages is thought here.
func TestSecondOpinion(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := mrand.New(mrand.NewPCG(seed, 0))
	for _, kind := range []string{"rsa", "ed25519"} {
		s := newSigner(t, kind, 2048)
		c, _ := checkerFor(t, map[string]string{keyPlace: s.record})
		lookup := &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{s.record}, nil }}
		for _, head := range []dkim.Canonicalization{"simple", "relaxed"} {
			for _, body := range []dkim.Canonicalization{"simple", "relaxed"} {
				for i, message := range signable(rng) {
					signed := s.sign(t, message, dkim.SignOptions{HeaderCanonicalization: head, BodyCanonicalization: body})
					if v := mustCheck(t, c, testEnvelope(), signed); len(v.DKIM) != 1 || v.DKIM[0].Result != "pass" {
						t.Fatalf("%s %s/%s, message %d: %+v\n%.1000s", kind, head, body, i, v.DKIM, signed)
					}
					for range 5 {
						altered := mutate(rng, signed)
						theirs, err := dkim.VerifyWithOptions(strings.NewReader(altered), lookup)
						if err != nil || len(theirs) != 1 {
							continue
						}
						v := mustCheck(t, c, testEnvelope(), altered)
						if len(v.DKIM) == 1 && v.DKIM[0].Result == "pass" && theirs[0].Err != nil {
							t.Errorf("%s %s/%s: %+v, another says %v\n%.2000q", kind, head, body, v.DKIM, theirs[0].Err, altered)
						}
					}
				}
			}
		}
	}
}

// mutate alters a message a little.
func mutate(rng *mrand.Rand, s string) string {
	b := []byte(s)
	at := rng.IntN(min(len(b), 3000))
	switch rng.IntN(4) {
	case 0:
		b[at] ^= 1 << rng.IntN(8)
	case 1:
		b = append(b[:at:at], b[at+1:]...)
	case 2:
		b = append(b[:at:at], append([]byte(" "), b[at:]...)...)
	default:
		b = append(b[:at:at], append([]byte("\r\n"), b[at:]...)...)
	}
	return string(b)
}

const plainMail = "From: Ada <ada@signer.test>\r\nTo: bob@dest.test\r\nSubject: hello\r\n\r\nbody\r\n"

func TestDKIMResults(t *testing.T) {
	s, short := newSigner(t, "rsa", 2048), newSigner(t, "ed25519", 0)
	good := s.sign(t, plainMail, dkim.SignOptions{})
	expired := s.sign(t, plainMail, dkim.SignOptions{Expiration: time.Now().Add(time.Hour)})
	sub := s.sign(t, plainMail, dkim.SignOptions{Identifier: "ada@mail.signer.test"})
	long := strings.Repeat("x", 300)
	replace := func(old, with string) string {
		out := strings.Replace(good, old, with, 1)
		if out == good {
			t.Fatalf("nothing to replace: %s in %s", old, good)
		}
		return out
	}
	for _, test := range []struct{ name, record, message, result, reason string }{
		{"good", s.record, good, "pass", ""},
		{"testing", s.record + "; t=y", good, "pass", ""},
		{"appended", s.record, good + "x", "fail", "body"},
		{"no key", "", good, "permerror", "no such name"},
		{"revoked", "v=DKIM1; p=", good, "permerror", "revoked"},
		{"no p=", "v=DKIM1; k=rsa", good, "permerror", "no key"},
		{"key of another version", "v=DKIM2; p=x", good, "permerror", "version"},
		{"key with v= in another place", strings.TrimPrefix(s.record, "v=DKIM1; ") + "; v=DKIM1", good, "permerror", "version"},
		{"another kind of key", short.record, good, "permerror", "not for rsa"},
		{"unknown kind of key", "v=DKIM1; k=dsa; p=eA==", good, "permerror", "unknown kind"},
		{"key for another hash", s.record + "; h=sha1", good, "permerror", "not for sha256"},
		{"key not for mail", s.record + "; s=web", good, "permerror", "not for mail"},
		{"garbage for a key", "v=DKIM1; p=!!!", good, "permerror", "base64"},
		{"key too long", "v=DKIM1; p=" + strings.Repeat("A", maxKeyBytes+4), good, "permerror", "longer"},
		{"no list of tags", "hello", good, "permerror", "list of tags"},
		{"expired", s.record, expired, "policy", "expired"},
		{"subdomain", s.record, sub, "pass", ""},
		{"subdomain, strict key", s.record + "; t=s", sub, "permerror", "t=s"},
		{"v=2", s.record, replace("v=1", "v=2"), "permerror", "v="},
		{"unknown algorithm", s.record, replace("rsa-sha256", "rsa-md5"), "permerror", "algorithm"},
		{"From not signed", s.record, replace("h=From:", "h="), "permerror", "From"},
		{"another domain in i=", s.record, replace("v=1", "v=1; i=@other.test"), "permerror", "i="},
		{"unknown query", s.record, replace("v=1", "v=1; q=http"), "permerror", "q="},
		{"odd domain", s.record, replace("d=signer.test", "d="+long), "permerror", "d="},
		{"odd selector", s.record, replace("s=sel", "s="+long), "permerror", "s="},
		{"odd times", s.record, replace("v=1", "v=1; x=1"), "permerror", "x="},
		{"tag twice", s.record, replace("v=1", "v=1; v=1"), "permerror", "list of tags"},
		{"l= more than there is", s.record, replace("v=1", "v=1; l=99999"), "fail", ""},
		{"many names", s.record, replace("h=From:", "h=From:"+strings.Repeat("a:", maxSignedFields)), "permerror", "names more"},
	} {
		txt := map[string]string{keyPlace: test.record}
		if test.record == "" {
			txt = nil
		}
		c, _ := checkerFor(t, txt)
		env := testEnvelope()
		if test.name == "expired" {
			env.Received = env.Received.Add(2 * time.Hour)
		}
		v := mustCheck(t, c, env, test.message)
		if len(v.DKIM) != 1 || v.DKIM[0].Result != test.result || !strings.Contains(v.DKIM[0].Reason, test.reason) {
			t.Errorf("%s: %+v, expected %s: %s", test.name, v.DKIM, test.result, test.reason)
		}
		if test.name == "testing" && !v.DKIM[0].Testing {
			t.Error("a key that is being tested is not told")
		}
	}
	c, dns := checkerFor(t, nil)
	dns.Fail(keyPlace)
	if v := mustCheck(t, c, testEnvelope(), good); v.DKIM[0].Result != "temperror" || !strings.Contains(v.DKIM[0].Reason, "SERVFAIL") {
		t.Errorf("no answer: %+v", v.DKIM)
	}
	dns.Set("two._domainkey.signer.test", "TXT", s.record, s.record)
	if v := mustCheck(t, c, testEnvelope(), replace("s=sel", "s=two")); v.DKIM[0].Result != "permerror" || !strings.Contains(v.DKIM[0].Reason, "2 keys") {
		t.Errorf("two keys: %+v", v.DKIM)
	}
}

// A signature over part of the body says so, and is no pass: anybody may have written the rest.
func TestBodyLength(t *testing.T) {
	s := newSigner(t, "rsa", 2048)
	c, _ := checkerFor(t, map[string]string{keyPlace: s.record})
	const body = "signed\r\n"
	header := "From: ada@signer.test\r\nSubject: x\r\n"
	signature := &signature{length: int64(len(body)), headerRelaxed: true, bodyRelaxed: true, signed: []string{"from", "subject"}}
	var sums bodySums
	sums.want(signature)
	if err := sums.read(t.Context(), strings.NewReader(body+"more\r\n")); err != nil {
		t.Fatal(err)
	}
	make := func(l int) string {
		raw := fmt.Sprintf("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=signer.test; s=sel; h=from:subject; l=%d; bh=%s; b=\r\n",
			l, base64.StdEncoding.EncodeToString(sums.list[0].sum))
		h, _, err := readHeader(t.Context(), strings.NewReader(raw+header+"\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		defer h.release()
		parsed := parseDKIM(&h.fields[0])
		digest := parsed.headerSum(h)
		b, err := s.key.Sign(rand.Reader, digest, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(raw, "\r\n") + base64.StdEncoding.EncodeToString(b) + "\r\n" + header + "\r\n"
	}
	for _, test := range []struct {
		l                    int
		body, result, reason string
	}{
		{len(body), body, "pass", ""},
		{len(body), body + "more\r\n", "policy", "6 bytes"},
		{len(body), body + "\r\n\r\n", "pass", ""},
		{len(body) + 1, body, "permerror", "more than the body has"},
		{len(body), "altered\r\n", "fail", "body"},
	} {
		v := mustCheck(t, c, testEnvelope(), make(test.l)+test.body)
		if len(v.DKIM) != 1 || v.DKIM[0].Result != test.result || !strings.Contains(v.DKIM[0].Reason, test.reason) {
			t.Errorf("l=%d over %q: %+v, expected %s", test.l, test.body, v.DKIM, test.result)
		}
	}
}

// However a body comes in, its canonical form is the same.
func TestCanonicalBody(t *testing.T) {
	for _, test := range []struct{ body, simple, relaxed string }{
		{"", "\r\n", ""},
		{"\r\n", "\r\n", ""},
		{"\r\n\r\n", "\r\n", ""},
		{" \r\n", " \r\n", ""},
		{"\t \r\n \r\n", "\t \r\n \r\n", ""},
		{"a", "a\r\n", "a\r\n"},
		{"a\r\n", "a\r\n", "a\r\n"},
		{" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"}, // RFC 6376, section 3.4.5
		{"a\r\n\r\nb  \r\n", "a\r\n\r\nb  \r\n", "a\r\n\r\nb\r\n"},
		{"a\rb\nc\r\n", "a\rb\nc\r\n", "a\rb\nc\r\n"},
		{"a \r b\r\r\n", "a \r b\r\r\n", "a \r b\r\r\n"},
		{"a\r", "a\r\r\n", "a\r\r\n"},
		{"a  ", "a  \r\n", "a\r\n"},
	} {
		for form, want := range []string{test.simple, test.relaxed} {
			for _, whole := range []bool{true, false} {
				var out []byte
				c := &bodyCanon{relaxed: form == 1, emit: func(b []byte) { out = append(out, b...) }}
				for i := 0; !whole && i < len(test.body); i++ {
					c.write([]byte{test.body[i]})
				}
				if whole {
					c.write([]byte(test.body))
				}
				c.close()
				if string(out) != want {
					t.Errorf("%q, relaxed %v: %q, expected %q", test.body, form == 1, out, want)
				}
			}
		}
	}
}

// A header that comes in any pieces is the same, and what follows it is the body.
func TestReadHeader(t *testing.T) {
	for _, message := range []string{plainMail, "From: x\r\n", "", "\r\nbody", "From: x\n\nbody", "a: b\r\n c\r\n\td\r\n\r\n", "no colon\r\n: odd\r\n a: b\r\n\r\n\r\n"} {
		whole, rest, err := readHeader(t.Context(), strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		pieces, rest2, err := readHeader(t.Context(), iotest.OneByteReader(strings.NewReader(message)))
		if err != nil {
			t.Fatal(err)
		}
		a, b := fmt.Sprintf("%q", whole.fields), fmt.Sprintf("%q", pieces.fields)
		var body, body2 bytes.Buffer
		body.ReadFrom(rest)
		body2.ReadFrom(rest2)
		if a != b || body.String() != body2.String() {
			t.Errorf("%q: %s, %q; in pieces %s, %q", message, a, body.String(), b, body2.String())
		}
	}
	if _, _, err := readHeader(t.Context(), iotest.ErrReader(fmt.Errorf("broken"))); err == nil {
		t.Error("a fault of the disk is the end of the header")
	}
}

// Hostile headers cost little, and no more is looked at, hashed and asked for than the limits say.
func TestHostileHeaders(t *testing.T) {
	s := newSigner(t, "rsa", 2048)
	signed := s.sign(t, plainMail, dkim.SignOptions{})
	signature := signed[:strings.Index(signed, "From: ")]
	arc := "ARC-Seal: i=1; a=rsa-sha256; cv=none; d=signer.test; s=sel; b=eA==\r\n"
	for name, test := range map[string]struct {
		message   string
		dkim      int
		more      int
		questions int
	}{
		"10,000 signatures":   {strings.Repeat("DKIM-Signature: v=1; a=x;\r\n", 9000) + plainMail, maxSignatures, 9000 - maxSignatures, 10},
		"400 good signatures": {strings.Repeat(signature, 400) + plainMail, maxSignatures, 400 - maxSignatures, 10},
		"10 domains each": {func() string {
			var b strings.Builder
			for i := range 200 {
				b.WriteString(strings.Replace(signature, "d=signer.test", fmt.Sprintf("d=d%d.test", i), 1))
			}
			return b.String() + plainMail
		}(), maxSignatures, 200 - maxSignatures, 10 + maxSignatures},
		"ARC seals":           {strings.Repeat(arc, 3000) + plainMail, 0, 0, 10},
		"a header of 2 MB":    {"X: " + strings.Repeat("a", 2<<20) + "\r\n" + signed, 0, 0, 10},
		"a header cut off":    {signed[:len(signature)] + "X: " + strings.Repeat("a", 2<<20), 1, 0, 10},
		"100,000 fields":      {signature + strings.Repeat("a:\r\n", 60000) + plainMail[:20], 1, 0, 10},
		"names for one field": {strings.Replace(signed, "h=From:", "h=From:"+strings.Repeat("Subject:", 990), 1), 1, 0, 10},
		"addresses":           {"From: " + strings.Repeat("a@b.test, ", 20000) + "c@d.test\r\n\r\n", 0, 0, 10},
	} {
		c, dns := checkerFor(t, map[string]string{keyPlace: s.record})
		start := time.Now()
		v := mustCheck(t, c, testEnvelope(), test.message)
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s takes %v", name, d)
		} else {
			t.Logf("%s: %v for two checks, %d questions", name, d, len(v.DNS))
		}
		if len(v.DKIM) != test.dkim || v.DKIMMore != test.more || dns.Asked(".") > test.questions {
			t.Errorf("%s: %d signatures, %d more, %d questions", name, len(v.DKIM), v.DKIMMore, dns.Asked("."))
		}
		if name == "a header cut off" && (v.DKIM[0].Result != "permerror" || !strings.Contains(v.DKIM[0].Reason, "header has more")) {
			t.Errorf("%s: %+v", name, v.DKIM)
		}
		if v.ARC != nil && v.ARC.Result != "fail" {
			t.Errorf("%s: %+v", name, v.ARC)
		}
	}
}

func TestDMARC(t *testing.T) {
	s := newSigner(t, "ed25519", 0)
	unsigned := func(from string) string { return "From: " + from + "\r\nSubject: x\r\n\r\nbody\r\n" }
	signed := func(from string) string { return s.sign(t, unsigned(from), dkim.SignOptions{}) }
	for _, test := range []struct {
		name, policy, at, mailFrom, message string
		want                                record.DMARCVerdict
	}{
		{"SPF, same domain", "v=DMARC1; p=reject", "signer.test", "a@signer.test", unsigned("ada@signer.test"),
			record.DMARCVerdict{Result: "pass", From: "signer.test", Organization: "signer.test", Record: "signer.test", Policy: "reject", SPFAligned: true}},
		{"DKIM, same domain", "v=DMARC1; p=reject", "signer.test", "a@list.test", signed("ada@signer.test"),
			record.DMARCVerdict{Result: "pass", From: "signer.test", Organization: "signer.test", Record: "signer.test", Policy: "reject", DKIMAligned: true}},
		{"neither", "v=DMARC1; p=quarantine", "signer.test", "a@list.test", unsigned("ada@signer.test"),
			record.DMARCVerdict{Result: "fail", From: "signer.test", Organization: "signer.test", Record: "signer.test", Policy: "quarantine"}},
		{"subdomain, relaxed", "v=DMARC1; p=reject; sp=none", "signer.test", "a@list.test", signed("Ada <ada@News.Signer.Test>"),
			record.DMARCVerdict{Result: "pass", From: "news.signer.test", Organization: "signer.test", Record: "signer.test", Policy: "none", DKIMAligned: true}},
		{"subdomain, strict", "v=DMARC1; p=reject; adkim=s", "signer.test", "a@signer.test", signed("ada@news.signer.test"),
			record.DMARCVerdict{Result: "pass", From: "news.signer.test", Organization: "signer.test", Record: "signer.test", Policy: "reject", SPFAligned: true}},
		{"subdomain, both strict", "v=DMARC1; p=reject; adkim=s; aspf=s", "signer.test", "a@signer.test", signed("ada@news.signer.test"),
			record.DMARCVerdict{Result: "fail", From: "news.signer.test", Organization: "signer.test", Record: "signer.test", Policy: "reject"}},
		{"no policy", "v=spf1 -all", "signer.test", "a@signer.test", unsigned("ada@signer.test"),
			record.DMARCVerdict{Result: "none", From: "signer.test", Organization: "signer.test", Reason: "no policy"}},
		{"a policy without p=", "v=DMARC1; rua=mailto:x@y.test", "signer.test", "a@list.test", unsigned("ada@signer.test"),
			record.DMARCVerdict{Result: "fail", From: "signer.test", Organization: "signer.test", Record: "signer.test", Policy: "none"}},
		{"a policy of nothing", "v=DMARC1; p=what", "signer.test", "a@list.test", unsigned("ada@signer.test"),
			record.DMARCVerdict{Result: "permerror", From: "signer.test", Organization: "signer.test", Reason: "the policy has no p= that is known"}},
		{"public suffix", "v=DMARC1; p=reject", "co.uk", "a@signer.test", unsigned("ada@signer.co.uk"),
			record.DMARCVerdict{Result: "none", From: "signer.co.uk", Organization: "signer.co.uk", Reason: "no policy"}},
		{"bounce", "v=DMARC1; p=reject", "signer.test", "", unsigned("ada@signer.test"),
			record.DMARCVerdict{Result: "pass", From: "signer.test", Organization: "signer.test", Record: "signer.test", Policy: "reject", SPFAligned: true}},
		{"IDN", "v=DMARC1; p=reject", "xn--bcher-kva.test", "a@list.test", unsigned("ada@bücher.test"),
			record.DMARCVerdict{Result: "fail", From: "xn--bcher-kva.test", Organization: "xn--bcher-kva.test", Record: "xn--bcher-kva.test", Policy: "reject"}},
		{"two From fields", "", "", "a@signer.test", "From: a@signer.test\r\nFrom: b@signer.test\r\n\r\n", record.DMARCVerdict{Result: "permerror", Reason: "2 From fields"}},
		{"no From field", "", "", "a@signer.test", "Subject: x\r\n\r\n", record.DMARCVerdict{Result: "permerror", Reason: "0 From fields"}},
		{"two authors", "", "", "a@signer.test", unsigned("a@signer.test, b@other.test"), record.DMARCVerdict{Result: "permerror", Reason: "the From field names several domains"}},
		{"no address", "", "", "a@signer.test", unsigned("undisclosed"), record.DMARCVerdict{Result: "permerror", Reason: "the From field has no address"}},
	} {
		c, dns := checkerFor(t, map[string]string{keyPlace: s.record, "signer.test": "v=spf1 ip4:192.0.2.1 -all", "mail.signer.test": "v=spf1 a -all"})
		dns.Set("mail.signer.test", "A", "192.0.2.1")
		if test.at != "" {
			dns.Set("_dmarc."+test.at, "TXT", "something else", test.policy)
		}
		env := testEnvelope()
		env.MailFrom.Address = test.mailFrom
		if v := mustCheck(t, c, env, test.message); v.DMARC == nil || *v.DMARC != test.want {
			t.Errorf("%s: %+v\nexpected %+v", test.name, deref(v.DMARC), test.want)
		}
	}
	c, dns := checkerFor(t, nil)
	dns.Fail("_dmarc.signer.test")
	if v := mustCheck(t, c, testEnvelope(), plainMail); v.DMARC.Result != "temperror" {
		t.Errorf("no answer: %+v", v.DMARC)
	}
	c, dns = checkerFor(t, map[string]string{"_dmarc.signer.test": "v=DMARC1; p=reject"})
	dns.Fail("signer.test")
	if v := mustCheck(t, c, testEnvelope(), plainMail); v.DMARC.Result != "temperror" || v.DMARC.Policy != "reject" {
		t.Errorf("SPF that can't be told: %+v", v.DMARC)
	}
}

// SPF is asked about who connected: not of those who signed in, nor where there was no connection.
func TestWhomSPFIsAskedAbout(t *testing.T) {
	c, _ := checkerFor(t, map[string]string{"signer.test": "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all", "mail.signer.test": "v=spf1 -all"})
	check := func(alter func(*record.Envelope)) string {
		env := testEnvelope()
		alter(env)
		var list []string
		for _, s := range mustCheck(t, c, env, plainMail).SPF {
			list = append(list, s.Identity+"="+s.Result)
		}
		return strings.Join(list, " ")
	}
	for i, test := range []struct {
		want  string
		alter func(*record.Envelope)
	}{
		{"mailfrom=pass helo=fail", func(*record.Envelope) {}},
		{"mailfrom=pass helo=fail", func(e *record.Envelope) { e.Client.Address = "2001:db8::1" }},
		{"mailfrom=pass helo=fail", func(e *record.Envelope) { e.Client.Address = "::ffff:192.0.2.1" }},
		{"mailfrom=fail helo=fail", func(e *record.Envelope) { e.Client.Address = "192.0.2.2" }},
		{"mailfrom=fail", func(e *record.Envelope) { e.MailFrom.Address = "" }},
		{"mailfrom=none", func(e *record.Envelope) { e.MailFrom.Address, e.Client.Helo = "", "localhost" }},
		{"mailfrom=none", func(e *record.Envelope) { e.MailFrom.Address, e.Client.Helo = "ada@localhost", "[192.0.2.1]" }},
		{"mailfrom=pass", func(e *record.Envelope) { e.Client.Helo = "" }},
		{"mailfrom=pass helo=fail", func(e *record.Envelope) { e.MailFrom.Address = `"a@b"@signer.test` }},
		{"", func(e *record.Envelope) { e.Auth = &record.Auth{} }},
		{"", func(e *record.Envelope) { e.Client = nil }},
		{"", func(e *record.Envelope) { e.MailFrom = nil }},
		{"", func(e *record.Envelope) { e.Client.Address = "nowhere" }},
	} {
		if got := check(test.alter); got != test.want {
			t.Errorf("%d: %q, expected %q", i, got, test.want)
		}
	}
}
