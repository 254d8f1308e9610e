package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

func TestMarshalEntry(t *testing.T) {
	at := time.Date(2026, 11, 23, 13, 0, 0, 5, time.FixedZone("", 3600))
	e := record.Entry{V: 1, Kind: record.KindAct, Time: at, Name: "search", By: "uid:1000 <&>", Seq: 7}
	line, err := MarshalEntry(e)
	check(t, err)
	want := `{"v":1,"kind":"act","time":"2026-11-23T12:00:00.000000005Z","name":"search","by":"uid:1000 <&>","seq":7,"frame":0}`
	if string(line) != want {
		t.Errorf("line is %s", line)
	}
	back, err := UnmarshalEntry(line)
	check(t, err)
	e.Time = at.UTC()
	if !reflect.DeepEqual(back, e) {
		t.Errorf("%+v came back as %+v", e, back)
	}
}

func TestMarshalEntryRefuses(t *testing.T) {
	good := record.Entry{V: 1, Kind: record.KindMessage, Time: time.Now()}
	tests := map[string]struct {
		change func(*record.Entry)
		want   error
	}{
		"version":     {func(e *record.Entry) { e.V = 2 }, ErrEntry},
		"no version":  {func(e *record.Entry) { e.V = 0 }, ErrEntry},
		"no kind":     {func(e *record.Entry) { e.Kind = "" }, ErrEntry},
		"year 10000":  {func(e *record.Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, ErrEntry},
		"over 65,535": {func(e *record.Entry) { e.Pack = strings.Repeat("p", record.MaxEntry) }, ErrTooLarge},
	}
	for name, tt := range tests {
		e := good
		tt.change(&e)
		if _, err := MarshalEntry(e); !errors.Is(err, tt.want) {
			t.Errorf("%s: error is %v, want %v", name, err, tt.want)
		}
	}
	// The very most that fits.
	line, err := MarshalEntry(good)
	check(t, err)
	good.Pack = strings.Repeat("p", record.MaxEntry-len(line)-len(`"pack":"",`))
	if line, err = MarshalEntry(good); err != nil || len(line) != record.MaxEntry {
		t.Errorf("an entry of %d bytes: %v", len(line), err)
	}
	good.Pack += "p"
	_, err = MarshalEntry(good)
	wantErr(t, err, ErrTooLarge)
}

func TestUnmarshalEntryStrict(t *testing.T) {
	const good = `{"v":1,"kind":"message","time":"2026-11-23T12:00:00Z","seq":7,"frame":0}`
	if _, err := UnmarshalEntry([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"unknown field":      {`"seq":7`, `"seq":7,"color":"red"`},
		"repeated field":     {`"seq":7`, `"seq":7,"seq":7`},
		"space":              {`"seq":7`, `"seq": 7`},
		"order":              {`"seq":7,"frame":0`, `"frame":0,"seq":7`},
		"case":               {`"seq"`, `"Seq"`},
		"zero written":       {`"seq":7`, `"seq":0`},
		"zone":               {`12:00:00Z`, `13:00:00+01:00`},
		"zone written":       {`12:00:00Z`, `12:00:00+00:00`},
		"fraction":           {`12:00:00Z`, `12:00:00.0Z`},
		"version":            {`"v":1`, `"v":2`},
		"newline after":      {`"frame":0}`, "\"frame\":0}\n"},
		"second value":       {`"frame":0}`, `"frame":0}{}`},
		"html escape":        {`"kind":"message"`, `"kind":"\u0026"`},
		"id in lower case":   {`"seq":7`, `"id":"01jdcmx0qh0000000000000000","seq":7`},
		"id zero":            {`"seq":7`, `"id":"00000000000000000000000000","seq":7`},
		"digest upper case":  {`"seq":7`, `"seq":7,"seal":"` + strings.Repeat("AB", 32) + `"`},
		"invalid UTF-8":      {`message`, "\xff"},
		"exponent":           {`"frame":0`, `"frame":1e3`},
		"number too large":   {`"seq":7`, `"seq":99999999999999999999`},
		"negative sequence":  {`"seq":7`, `"seq":-1`},
		"nothing":            {good, ``},
		"null":               {good, `null`},
		"other JSON":         {good, `[]`},
		"too long":           {`"seq":7`, `"seq":7` + strings.Repeat(" ", record.MaxEntry)},
		"unknown init field": {`"frame":0`, `"frame":0,"init":{"archive":"","log":"","key":"","escrow":false,"x":1}`},
	} {
		line := strings.Replace(good, change[0], change[1], 1)
		if line == good {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := UnmarshalEntry([]byte(line)); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: error is %v, want ErrEntry", name, err)
		}
	}
}

func FuzzUnmarshalEntry(f *testing.F) {
	for _, e := range makeEntries(10, time.Unix(1_800_000_000, 1)) {
		line, err := MarshalEntry(e)
		check(f, err)
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		sameEntry(t, line)
		e, err := UnmarshalEntry(line)
		if err != nil {
			wantErr(t, err, ErrEntry)
			return
		}
		again, err := MarshalEntry(e)
		check(t, err)
		if !bytes.Equal(again, line) || !json.Valid(line) {
			t.Fatalf("%q was accepted and is written as %q", line, again)
		}
	})
}

// Both ways of reading and of writing give the same wherever the fast one has an answer, and the fast one has one for usual entries.
func TestFastEntriesAreThoseOfJSON(t *testing.T) {
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	texts := []string{"", "", "a", "delivery-1", "packs/2033-11/2026/11/23/main-1-00ff.tar.zst", "<&>", `"`, "\\", "\n", "\x7f", "é", "\u2028", "\xff"}
	text := func() string { return texts[min(rng.IntN(len(texts)), rng.IntN(len(texts)))] }
	digest := func() (d record.Digest) {
		if rng.IntN(3) > 0 {
			d = record.Sum(binary.LittleEndian.AppendUint64(nil, rng.Uint64()))
		}
		return d
	}
	number := func() int64 { return int64(rng.Uint64()>>rng.IntN(65)) * int64(1-2*rng.IntN(8)/7) }
	fast := 0
	const rounds = 20_000
	for range rounds {
		e := record.Entry{V: rng.IntN(3), Kind: record.Kind(text()), Name: text(), By: text(), Seq: uint64(number()), Seal: digest(),
			Pack: text(), PackSHA256: digest(), Frame: number(), Length: number()}
		e.Time = time.Unix(rng.Int64N(300_000_000_000)-70_000_000_000, rng.Int64N(1e9)).UTC() // the years -248 to 9258
		for range rng.IntN(3) {
			e.Time = e.Time.Truncate([]time.Duration{time.Millisecond, time.Microsecond, time.Second, 24 * time.Hour}[rng.IntN(4)])
		}
		if rng.IntN(3) > 0 {
			e.ID = record.NewID(e.Time.Add(time.Duration(rng.Int64N(1e18))))
		}
		if rng.IntN(20) == 0 {
			e.Drop = &record.Drop{First: 1, Last: 2}
		}
		want, err := marshalLine(&e)
		got, ok := appendEntry(nil, &e)
		if ok && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("seed %d: %+v\n fast %s\n JSON %s, %v", seed, e, got, want, err)
		}
		if !ok {
			continue
		}
		sameEntry(t, want)
		// And with one byte of it changed, taken out, or put in.
		at, c := rng.IntN(len(want)), bytesOfLines[rng.IntN(len(bytesOfLines))]
		changed := bytes.Clone(want)
		changed[at] = c
		sameEntry(t, changed)
		sameEntry(t, slices.Delete(bytes.Clone(want), at, at+1))
		sameEntry(t, slices.Insert(bytes.Clone(want), at, c))
		fast++
	}
	if fast < rounds/10 {
		t.Errorf("seed %d: %d of %d were written fast", seed, fast, rounds)
	}
	for _, e := range makeEntries(100, time.Unix(1_800_000_000, 1)) {
		line, ok := appendEntry(nil, &e)
		var back record.Entry
		if !ok || !readEntry(line, &back, "") {
			t.Fatalf("the fast way does not know %+v", e)
		}
	}
}

const bytesOfLines = " 0123456789-+.,:{}\"\\aAZ\xff"

// sameEntry reads a line both ways.
func sameEntry(t *testing.T, line []byte) {
	t.Helper()
	var fast, slow record.Entry
	if !readEntry(line, &fast, "") {
		return
	}
	if err := unmarshalLine(line, &slow); err != nil || !reflect.DeepEqual(fast, slow) {
		t.Fatalf("%s\n fast %+v\n JSON %+v, %v", line, fast, slow, err)
	}
	if again, ok := appendEntry(nil, &fast); !ok || !bytes.Equal(again, line) {
		t.Fatalf("%s is written as %s", line, again)
	}
}

// FuzzDecodeCommit is given the text of a commit; the frame and the SHA-256 around it are made here.
func FuzzDecodeCommit(f *testing.F) {
	w := newWorld(f)
	l := w.log()
	w.append(l, 5)
	_, err := l.Append(f.Context(), makeEntries(2, w.clock.Now()), [][2]uint64{{1, 5}, {8, 8}})
	check(f, err)
	for n := range uint64(3) {
		text, err := decodeObject(w.store.Bytes(CommitKey(testLog, n)))
		check(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decodeCommit(encodeObject(text))
		if err != nil {
			wantErr(t, err, ErrAltered)
			return
		}
		header, err := marshalLine(&c.Header)
		check(t, err)
		again := append(header, '\n')
		for _, e := range c.Entries {
			again = append(append(again, e.Raw...), '\n')
		}
		again = append(append(again, '\n'), c.Checkpoint.Note...)
		if !bytes.Equal(again, text) {
			t.Fatalf("%q was accepted as %q", text, again)
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	f.Add(encodeObject([]byte("text\n")))
	f.Add(encodeObject(bytes.Repeat([]byte("x"), 1<<20)))
	f.Fuzz(func(t *testing.T, object []byte) {
		if _, err := decodeCommit(object); err != nil {
			wantErr(t, err, ErrAltered)
		}
		// The same as the frame of an object that has the right SHA-256.
		sum := record.Sum(object)
		if _, err := decodeCommit(append(append(bytes.Clone(object), trailerMagic...), sum[:]...)); err != nil {
			wantErr(t, err, ErrAltered)
		}
	})
}

func TestDecodeObjectBomb(t *testing.T) {
	_, err := decodeObject(encodeObject(make([]byte, maxText+1)))
	wantErr(t, err, ErrAltered)
	text, err := decodeObject(encodeObject(make([]byte, maxText)))
	check(t, err)
	if len(text) != maxText {
		t.Errorf("%d bytes of %d", len(text), maxText)
	}
}

func TestBatchLimits(t *testing.T) {
	w := newWorld(t)
	l := w.log()
	before := w.store.Keys()
	small := record.Entry{V: 1, Kind: "x", Time: time.Unix(0, 0)}
	large := small
	large.Pack = strings.Repeat("p", 65000)
	bad := small
	bad.V = 9
	for name, tt := range map[string]struct {
		entries []record.Entry
		want    error
	}{
		"none":           {nil, nil},
		"too many":       {repeat(small, MaxBatch+1), ErrTooLarge},
		"too many bytes": {repeat(large, MaxBatchBytes/65000+1), ErrTooLarge},
		"one is bad":     {[]record.Entry{small, bad}, ErrEntry},
	} {
		_, err := l.Append(t.Context(), tt.entries, nil)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if _, err := l.Append(t.Context(), []record.Entry{small}, [][2]uint64{{5, 3}}); err == nil {
		t.Error("a run of pending sequences from 5 to 3 is accepted")
	}
	if after := w.store.Keys(); !reflect.DeepEqual(before, after) {
		t.Errorf("refused batches have written %v", after)
	}
	// The most that fits goes through, and the log is as good as before.
	if _, err := l.Append(t.Context(), repeat(small, MaxBatch), nil); err != nil {
		t.Error(err)
	}
	w.append(l, 1)
	check(t, l.Close(t.Context()))
	w.clean()
}

func repeat(e record.Entry, n int) []record.Entry {
	entries := make([]record.Entry, n)
	for i := range entries {
		entries[i] = e
	}
	return entries
}

func TestPendingRuns(t *testing.T) {
	type runs = [][2]uint64
	const most = 1<<64 - 1
	for _, tt := range []struct{ pending, done, want runs }{
		{nil, nil, nil},
		{runs{{1, 10}}, nil, runs{{1, 10}}},
		{runs{{5, 6}, {1, 2}, {3, 4}, {9, 9}}, nil, runs{{1, 6}, {9, 9}}},
		{runs{{1, 10}}, runs{{1, 10}}, nil},
		{runs{{1, 10}}, runs{{3, 3}, {4, 4}, {10, 10}}, runs{{1, 2}, {5, 9}}},
		{runs{{5, 10}}, runs{{1, 7}, {20, 30}}, runs{{8, 10}}},
		{runs{{5, 10}, {15, 20}}, runs{{8, 17}}, runs{{5, 7}, {18, 20}}},
		{runs{{5, 10}}, runs{{11, 12}}, runs{{5, 10}}},
		{runs{{5, most}, {7, 9}}, runs{{most, most}}, runs{{5, most - 1}}},
		{runs{{most, most}, {1, most}}, runs{{3, 3}}, runs{{1, 2}, {4, most}}},
	} {
		got, err := pendingRuns(tt.pending, tt.done)
		check(t, err)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v without %v is %v, want %v", tt.pending, tt.done, got, tt.want)
		}
	}
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	for range 500 {
		var pending, done runs
		want := map[uint64]bool{}
		for range rng.IntN(6) {
			from := 1 + rng.Uint64N(30)
			pending = append(pending, [2]uint64{from, from + rng.Uint64N(6)})
		}
		for range rng.IntN(6) {
			from := 1 + rng.Uint64N(30)
			done = append(done, [2]uint64{from, from + rng.Uint64N(6)})
		}
		for n := range uint64(50) {
			if inRuns(pending, n) && !inRuns(done, n) {
				want[n] = true
			}
		}
		got, err := pendingRuns(pending, done)
		check(t, err)
		for n := range uint64(50) {
			if inRuns(got, n) != want[n] {
				t.Fatalf("seed %d: %v without %v is %v, wrong at %d", seed, pending, done, got, n)
			}
		}
	}
}

func inRuns(runs [][2]uint64, n uint64) bool {
	for _, r := range runs {
		if r[0] <= n && n <= r[1] {
			return true
		}
	}
	return false
}
