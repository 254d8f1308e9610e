package authres

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/journal/authres/dnstest"
)

// corpusMail reads a sample of the collection of real mail.
func corpusMail(b testing.TB, most int) (list [][]byte) {
	b.Helper()
	cmd := exec.Command(need(b, "zstd", "zstd"), "-dc", shared(b, "corpus/mail.tar.zst"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	for r := tar.NewReader(out); len(list) < most; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, text)
	}
	return list
}

// BenchmarkVerdicts checks real mail as it came by one client, with a resolver beside it; signed says that each has a signature by a key of
// 2048 bits. cpu-ms/op is the CPU time of the whole process, the small DNS server's included.
func BenchmarkVerdicts(b *testing.B) {
	list := corpusMail(b, 1500)
	s := newSigner(b, "rsa", 2048)
	dns := dnstest.New(b)
	dns.Set(keyPlace, "TXT", s.record)
	dns.Set("signer.test", "TXT", "v=spf1 ip4:192.0.2.0/24 include:_spf.signer.test -all")
	dns.Set("_dmarc.signer.test", "TXT", "v=DMARC1; p=reject")
	var signed [][]byte
	for _, m := range list {
		var out bytes.Buffer
		err := dkim.Sign(&out, bytes.NewReader(m), &dkim.SignOptions{
			Domain: "signer.test", Selector: "sel", Signer: s.key, HeaderCanonicalization: "relaxed", BodyCanonicalization: "relaxed", HeaderKeys: []string{"From", "To", "Subject", "Date"},
		})
		if err == nil {
			signed = append(signed, out.Bytes())
		}
	}
	for name, mails := range map[string][][]byte{"plain": list, "signed": signed} {
		b.Run(name, func(b *testing.B) {
			c := NewChecker(NewResolver([]string{dns.Addr}))
			size := 0
			before := cpuTime()
			for i := 0; b.Loop(); i++ {
				m := mails[i%len(mails)]
				size += len(m)
				env := &record.Envelope{
					Received: time.Now(), Client: &record.Client{Address: "192.0.2.1", Helo: "mail.signer.test"}, MailFrom: &record.Path{Address: "ada@signer.test"},
				}
				v, err := c.Check(b.Context(), env, bytes.NewReader(m))
				if err != nil {
					b.Fatal(err)
				}
				if name == "signed" && v.DKIM[0].Result != "pass" && !strings.Contains(v.DKIM[0].Reason, "From") {
					b.Fatalf("%+v", v.DKIM)
				}
			}
			b.ReportMetric(float64(cpuTime()-before)/1e6/float64(b.N), "cpu-ms/op")
			b.SetBytes(int64(size / b.N))
		})
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
