package smtpd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const idleClients = 10000

// BenchmarkIdle is what 10,000 clients cost that have said EHLO and no more, in resident bytes for each. They are in a process of their
// own, so that their memory does not count. The limit of open files must allow it: ulimit -n 10100.
func BenchmarkIdle(b *testing.B) {
	for _, overTLS := range []bool{false, true} {
		b.Run(map[bool]string{false: "clear", true: "TLS"}[overTLS], func(b *testing.B) {
			cfg := relayConfig()
			cfg.TLS = writeCert(b, b.TempDir(), "mx.example.test")
			cfg.Limits = Limits{Connections: idleClients + 1, ConnectionsPerClient: idleClients + 1}
			for b.Loop() {
				srv := newServer(b, cfg, discard{})
				address := listen(b, srv)
				before := resident(b)
				cmd := exec.Command(os.Args[0], "-test.run=^TestIdleClients$", "-test.v")
				cmd.Env = append(os.Environ(), "IDLE_CLIENTS="+address, "IDLE_TLS="+strconv.FormatBool(overTLS))
				in, _ := cmd.StdinPipe()
				out, _ := cmd.StdoutPipe()
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				ready := false
				for lines := bufio.NewScanner(out); !ready && lines.Scan(); {
					ready = lines.Text() == "ready"
				}
				if !ready {
					b.Fatal("the clients failed")
				}
				after := resident(b)
				srv.mu.Lock()
				open := len(srv.conns)
				srv.mu.Unlock()
				if open != idleClients {
					b.Errorf("%d are connected", open)
				}
				b.ReportMetric(float64(after-before)/idleClients, "B/client")
				b.ReportMetric(float64(after)/(1<<20), "MiB")
				in.Close()
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestIdleClients is the other process of BenchmarkIdle, and nothing by itself.
func TestIdleClients(t *testing.T) {
	address := os.Getenv("IDLE_CLIENTS")
	if address == "" {
		return
	}
	var wg sync.WaitGroup
	conns := make([]net.Conn, idleClients)
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				var err error
				if conns[i], err = sayHello(address, os.Getenv("IDLE_TLS") == "true"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range conns {
		next <- i
	}
	close(next)
	wg.Wait()
	if !t.Failed() {
		fmt.Println("\nready")
	}
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
}

func sayHello(address string, overTLS bool) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, 512)
	say := func(line string) error {
		if line != "" {
			io.WriteString(conn, line+"\r\n")
		}
		if code, text, err := readReply(r); err != nil || code/100 != 2 {
			return fmt.Errorf("%s: %q, %w", line, text, err)
		}
		return nil
	}
	if err := say(""); err != nil {
		return nil, err
	}
	if overTLS {
		if err := say("EHLO x"); err != nil {
			return nil, err
		}
		if err := say("STARTTLS"); err != nil {
			return nil, err
		}
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		r = bufio.NewReaderSize(conn, 512)
	}
	return conn, say("EHLO x")
}

// resident is the memory of this process that is in use and in RAM, in bytes.
func resident(b *testing.B) int64 {
	b.Helper()
	runtime.GC()
	runtime.GC()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kb, err := strconv.ParseInt(strings.Fields(string(value))[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
