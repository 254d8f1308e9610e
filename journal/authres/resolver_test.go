package authres

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres/dnstest"
)

func lookup(t testing.TB, r *Resolver, name string, typ dnsmessage.Type) ([]resource, *lookups, error) {
	t.Helper()
	l := newLookups(t.Context(), r)
	list, err := l.find(name, typ)
	return list, l, err
}

func TestAnswersAreKeptVerbatim(t *testing.T) {
	dns := dnstest.New(t)
	dns.Set("www.acme.test", "CNAME", "web.acme.test")
	dns.Set("web.acme.test", "A", "192.0.2.1", "192.0.2.2")
	dns.Set("acme.test", "TXT", `v=spf1 "quoted" \back`+"\x00\xff", strings.Repeat("x", 600))
	dns.Set("acme.test", "MX", "10 mx.acme.test")
	dns.Set("acme.test", "AAAA", "2001:db8::1")
	l := newLookups(t.Context(), NewResolver([]string{dns.Addr}))
	for _, q := range []question{{"www.acme.test", typeA}, {"acme.test", typeTXT}, {"acme.test", typeMX}, {"acme.test", typeAAAA}, {"acme.test", typeA}, {"none.test", typeA}} {
		l.find(q.name, q.typ)
		l.find(strings.ToUpper(q.name)+".", q.typ) // the same question
	}
	var got []string
	for _, a := range l.recorded() {
		if a.Server != dns.Addr || time.Since(a.Time) > time.Minute || !a.AD || a.Error != "" {
			t.Errorf("%+v", a)
		}
		got = append(got, fmt.Sprint(a.Name, " ", a.Type, " ", a.Rcode, " ", strings.Join(a.Answer, " | ")))
	}
	x := strings.Repeat("x", 255)
	want := []string{
		"www.acme.test. A NOERROR www.acme.test. 300 IN CNAME web.acme.test. | web.acme.test. 300 IN A 192.0.2.1 | web.acme.test. 300 IN A 192.0.2.2",
		`acme.test. TXT NOERROR acme.test. 300 IN TXT "v=spf1 \034quoted\034 \092back\000\255" | acme.test. 300 IN TXT "` + x + `" "` + x + `" "` + x[:90] + `"`,
		"acme.test. MX NOERROR acme.test. 300 IN MX 10 mx.acme.test.",
		"acme.test. AAAA NOERROR acme.test. 300 IN AAAA 2001:db8::1",
		"acme.test. A NOERROR ",
		"none.test. A NXDOMAIN ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text, err := json.Marshal(l.recorded())
	if err != nil {
		t.Fatal(err)
	}
	var back []record.DNSAnswer
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again := newLookups(t.Context(), newRecorded(back))
	texts, err := again.txt("acme.test")
	if err != nil || len(texts) != 2 || texts[0] != `v=spf1 "quoted" \back`+"\x00\xff" || texts[1] != strings.Repeat("x", 600) {
		t.Errorf("out of the record: %q, %v", texts, err)
	}
	if _, err := again.txt("other.test"); err == nil || !strings.Contains(err.Error(), "was not asked at receipt") {
		t.Errorf("what was not asked: %v", err)
	}
}

func TestResolverRemembers(t *testing.T) {
	dns := dnstest.New(t)
	dns.Set("acme.test", "A", "192.0.2.1")
	r := NewResolver([]string{dns.Addr})
	dns.Delay(50 * time.Millisecond)
	var wg sync.WaitGroup
	for range 50 { // at once: one query
		wg.Go(func() { lookup(t, r, "acme.test", typeA) })
	}
	wg.Wait()
	if n := dns.Asked("acme.test"); n != 1 {
		t.Errorf("asked %d times at once", n)
	}
	dns.Delay(0)
	dns.Set("acme.test", "A", "192.0.2.9")
	if list, _, _ := lookup(t, r, "ACME.test.", typeA); list[0].ip.String() != "192.0.2.1" || dns.Asked("acme.test") != 1 {
		t.Errorf("not from memory: %v", list)
	}
	old, _ := r.cache.get(question{"acme.test.", typeA})
	if ttl := time.Until(old.expires); ttl < 290*time.Second || ttl > 300*time.Second {
		t.Errorf("remembered for %v", ttl)
	}
	expired := *old
	expired.expires = time.Now()
	r.cache.put(question{"acme.test.", typeA}, &expired, 1)
	if list, _, _ := lookup(t, r, "acme.test", typeA); list[0].ip.String() != "192.0.2.9" {
		t.Errorf("an answer is used that has expired: %v", list)
	}
	cached, asked, failed := r.Counts()
	if cached == 0 || asked != 2 || failed != 0 {
		t.Errorf("counts: %d %d %d", cached, asked, failed)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int, string](1000)
	for i := range 10000 {
		c.get(0)
		c.put(i, "x", 10)
	}
	if n := len(c.young) + len(c.old); n > 100 {
		t.Errorf("%d values are kept", n)
	}
	if _, ok := c.get(0); !ok {
		t.Error("what is used all the time is forgotten")
	}
	if _, ok := c.get(9999); !ok {
		t.Error("the newest is forgotten")
	}
	if _, ok := c.get(5000); ok {
		t.Error("what nobody asks for is kept")
	}
}

func TestLargeAnswersComeByTCP(t *testing.T) {
	dns := dnstest.New(t)
	dns.Set("large.test", "TXT", strings.Repeat("y", 5000))
	dns.Set("huge.test", "TXT", strings.Repeat("y", 20000))
	r := NewResolver([]string{dns.Addr})
	list, _, err := lookup(t, r, "large.test", typeTXT)
	if err != nil || len(strings.Join(list[0].text, "")) != 5000 {
		t.Errorf("%d records, %v", len(list), err)
	}
	if _, l, err := lookup(t, r, "huge.test", typeTXT); err == nil || !strings.Contains(l.recorded()[0].Error, "more than") {
		t.Errorf("an answer that is too long: %v, %+v", err, l.recorded())
	}
}

// Datagrams that are not the answer are not listened to; a server that does not answer is not the last one.
func TestForgedAndMissingAnswers(t *testing.T) {
	dns := dnstest.New(t)
	dns.Set("acme.test", "A", "192.0.2.1")
	dns.Garble(func(answer []byte) [][]byte {
		other := slices.Clone(answer)
		other[0]++ // another id
		other[len(other)-1] = 66
		query := slices.Clone(answer)
		query[2] &^= 0x80
		name := slices.Clone(answer)
		name[13] ^= 1
		return [][]byte{other, query, name, {1, 2, 3}, nil, answer[:20], answer}
	})
	if list, _, err := lookup(t, NewResolver([]string{dns.Addr}), "acme.test", typeA); err != nil || list[0].ip.String() != "192.0.2.1" {
		t.Errorf("%v, %v", list, err)
	}
	dns.Garble(nil)
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if list, l, err := lookup(t, NewResolver([]string{closed.LocalAddr().String(), dns.Addr}), "acme.test", typeA); err != nil || list[0].ip.String() != "192.0.2.1" || l.recorded()[0].Server != dns.Addr {
		t.Errorf("the second server: %v, %v", list, err)
	}
	if _, l, err := lookup(t, NewResolver([]string{closed.LocalAddr().String()}), "acme.test", typeA); err == nil || l.recorded()[0].Error == "" || l.recorded()[0].Rcode != "" {
		t.Errorf("no server: %v, %+v", err, l.recorded())
	}
}

// The end of the context ends the waiting, and the record says that there was no answer.
func TestNoAnswerInTime(t *testing.T) {
	dns := dnstest.New(t)
	dns.Silence(".")
	r := NewResolver([]string{dns.Addr})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	l := newLookups(ctx, r)
	_, err := l.find("acme.test", typeA)
	if dns, ok := err.(*net.DNSError); !ok || !dns.IsTemporary || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if a := l.recorded(); len(a) != 1 || a[0].Error != "no answer in time" {
		t.Errorf("%+v", a)
	}
}

// One message asks a bounded number of questions, whatever it makes SPF do.
func TestQuestionsAreBounded(t *testing.T) {
	dns := dnstest.New(t)
	l := newLookups(t.Context(), NewResolver([]string{dns.Addr}))
	for i := range 2 * maxQuestions {
		l.find(fmt.Sprintf("n%d.test", i), typeA)
	}
	if len(l.recorded()) != maxQuestions || dns.Asked(".") != maxQuestions {
		t.Errorf("%d recorded, %d asked", len(l.recorded()), dns.Asked("."))
	}
	l = newLookups(t.Context(), NewResolver([]string{dns.Addr}))
	for i := range 100 {
		name := fmt.Sprintf("t%d.test", i)
		dns.Set(name, "TXT", strings.Repeat("z", 10000))
		l.find(name, typeTXT)
	}
	if n := len(l.recorded()); n > maxAnswers/10000+1 {
		t.Errorf("%d answers of 10 kB are recorded", n)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"ACME.Test": "acme.test.", "acme.test.": "acme.test.", "_dmarc.acme.test": "_dmarc.acme.test.", "bücher.test": "xn--bcher-kva.test.",
		"a b.test": "a b.test.", "": "", ".": "", "a..test": "", ".test": "", "a\x00.test": "", "a\r\n.test": "",
		strings.Repeat("x", 64) + ".test": "", strings.Repeat("x.", 130) + "test": "", strings.Repeat("x", 63): strings.Repeat("x", 63) + ".",
	} {
		if got, ok := dnsName(name); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", name, got, ok)
		}
	}
}

func TestSystemServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# comment\nsearch acme.test\nnameserver 192.0.2.1\nnameserver\nnameserver what\n nameserver 2001:db8::1 # two\noptions edns0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := systemServers(path); !slices.Equal(got, []string{"192.0.2.1:53", "[2001:db8::1]:53"}) {
		t.Errorf("%q", got)
	}
	if got := systemServers(path + "-"); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("none: %q", got)
	}
	for in, want := range map[string]string{"127.0.0.1": "127.0.0.1:53", "127.0.0.1:5353": "127.0.0.1:5353", "::1": "[::1]:53", "[::1]:5": "[::1]:5", "dns.test": "", "127.0.0.1:0": "", "": ""} {
		if got, err := ServerAddress(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
