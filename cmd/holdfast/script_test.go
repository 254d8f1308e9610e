package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(rebuildEnv); file != "" {
		fmt.Println("error:", rebuildUntilKilled(file))
		os.Exit(1)
	}
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// The scripts in testdata/script are how the command line behaves, to be read as a manual of it. They have some commands of their own:
//
//	exit CODE program args…    runs a program that must end with this exit code
//	expand file…               puts the values of variables in place of $NAME in files
//	freeport NAME…             sets variables to ports that are free
//	reserve host:port          waits until nobody listens there, and no other test that reserves will until the script's end
//	await URL                  waits until an HTTP server answers 200
//	indexed URL                waits until everything can be found, by the metrics there
//	settled URL                waits until everything is archived, too
//	grab NAME regexp           sets a variable to what a group matches in the last standard output
//	send host:port file…       sends messages by SMTP
//	get URL regexp             waits until the answer of an HTTP server matches
//	damage DIR                 changes a byte in the middle of the first file below a folder
//	waitfor regexp N program…  runs a program until its output has N matches; that is the last standard output then
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector would sleep a second at each exit
			env.Setenv("UID", strconv.Itoa(os.Getuid()))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exitScript, "expand": expandScript, "freeport": freePortScript, "reserve": reserveScript, "await": awaitScript,
			"indexed": metricScript("\nholdfast_index_lag_entries 0\n"),
			"settled": metricScript("\nholdfast_index_lag_entries 0\n", "\nholdfast_spool_pending_records 0\n"),
			"grab":    grabScript, "send": sendScript, "waitfor": waitForScript, "get": getScript, "damage": damageScript,
		},
	})
}

func need(ts *testscript.TestScript, neg bool, args []string, least int) {
	if neg || len(args) < least {
		ts.Fatalf("usage: see TestScript")
	}
}

func exitScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, expected %d", code, want)
	}
}

func expandScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	for _, file := range args {
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(os.Expand(ts.ReadFile(file), ts.Getenv)), 0o600))
	}
}

func freePortScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	for _, name := range args { // all are taken before the first is given back
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// poll waits for a condition.
func poll(ts *testscript.TestScript, limit time.Duration, what string, cond func() bool) {
	for end := time.Now().Add(limit); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// oneAtATime is listened on by tests of what takes the ports of the embedded defaults, in whatever process they run.
const oneAtATime = "127.0.0.1:2524"

func reserveScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	poll(ts, 3*time.Minute, "the other tests are done", func() bool {
		l, err := net.Listen("tcp", oneAtATime)
		if err == nil {
			ts.Defer(func() { l.Close() })
		}
		return err == nil
	})
	poll(ts, 3*time.Minute, "nobody listens on "+args[0], func() bool {
		l, err := net.Listen("tcp", args[0])
		return err == nil && l.Close() == nil
	})
}

func awaitScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	poll(ts, time.Minute, args[0]+" answers", func() bool {
		res, err := http.Get(args[0])
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
}

func getScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	poll(ts, time.Minute, args[0]+" says "+args[1], func() bool {
		res, err := http.Get(args[0])
		if err != nil {
			return false
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		return err == nil && want.Match(text)
	})
}

func damageScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	done := errors.New("done")
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			return err
		}
		text[len(text)/2] ^= 1
		return errors.Join(os.Remove(path), os.WriteFile(path, text, 0o400), done)
	})
	if !errors.Is(err, done) {
		ts.Fatalf("damage %s: %v", args[0], err)
	}
}

// metricScript makes a command that waits until all these lines are among the metrics.
func metricScript(lines ...string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		need(ts, neg, args, 1)
		poll(ts, time.Minute, fmt.Sprintf("metrics %q", lines), func() bool {
			res, err := http.Get(args[0])
			if err != nil {
				return false
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			return err == nil && !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(string(text), line) })
		})
	}
}

func grabScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("no match of %s in %s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], m[1])
}

func sendScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	for _, file := range args[1:] {
		message := strings.ReplaceAll(ts.ReadFile(file), "\n", "\r\n")
		ts.Check(smtp.SendMail(args[0], nil, "ada@acme.example", []string{"bob@dest.example"}, []byte(message)))
	}
}

func waitForScript(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3)
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	re := regexp.MustCompile("(?m)" + args[0])
	poll(ts, time.Minute, fmt.Sprintf("%d matches of %s", want, args[0]), func() bool {
		ts.Check(ts.Exec(args[2], args[3:]...))
		return len(re.FindAllString(ts.ReadFile("stdout"), -1)) == want
	})
}

// Each command says what it is for by an example, and takes --config; all but those that run or only ask for a password take --json.
func TestEveryCommandHasAnExample(t *testing.T) {
	withoutJSON := map[string]bool{"serve": true, "demo": true, "smtp-user": true}
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if !strings.HasPrefix(strings.TrimLeft(cmd.Example, " "), "holdfast") {
			t.Errorf("%s: no example", cmd.CommandPath())
		}
		if cmd.Short == "" || cmd.InheritedFlags().Lookup("config") == nil && cmd.PersistentFlags().Lookup("config") == nil {
			t.Errorf("%s: no --config, or no word on what it does", cmd.CommandPath())
		}
		if json := cmd.Flags().Lookup("json") != nil; json != (!cmd.HasSubCommands() && !withoutJSON[cmd.Name()]) {
			t.Errorf("%s: --json: %v", cmd.CommandPath(), json)
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newRoot())
}

// The README's list of commands and the program agree.
func TestReadmeNamesOnlyCommandsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	root, n := newRoot(), 0
	for _, m := range regexp.MustCompile("(?m)^    (?:go run ./cmd/)?holdfast ([a-z]+)|`holdfast ([a-z]+)").FindAllStringSubmatch(string(text), -1) {
		name := m[1] + m[2]
		n++
		if cmd, _, err := root.Find([]string{name}); err != nil || cmd == root {
			t.Errorf("the README has holdfast %s, the program has not", name)
		}
	}
	if n < 8 {
		t.Errorf("only %d commands are named", n)
	}
}
