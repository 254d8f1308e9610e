package bundle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// line is one line of custody.jsonl, as BUNDLE.md has it.
type line struct {
	V           int               `json:"v"`
	ID          record.ID         `json:"id"`
	Decision    Decision          `json:"decision"`
	Document    string            `json:"document"`
	Native      string            `json:"native"`
	Proof       string            `json:"proof"`
	Log         string            `json:"log"`
	Number      uint64            `json:"number"`
	Entry       json.RawMessage   `json:"entry"`
	Envelope    json.RawMessage   `json:"envelope"`
	Supplements []json.RawMessage `json:"supplements"`
	Late        []lateLine        `json:"late"`
}

type lateLine struct {
	Proof      string          `json:"proof"`
	Number     uint64          `json:"number"`
	Entry      json.RawMessage `json:"entry"`
	Supplement json.RawMessage `json:"supplement"`
}

// maxCustody bounds a line: an envelope may have very many recipients.
const maxCustody = 256 << 20

// custody checks what the archive's own signature says of each record: its entry is in the ledger, and message and envelope are those that
// were entered.
func (v *verifier) custody() error {
	f, err := v.open(fileCustody)
	if errors.Is(err, fs.ErrNotExist) {
		if !v.known[v.hash(fileCustody)] {
			v.listed(fileCustody, "each bundle")
		}
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	var long []byte
	for n := 1; ; n++ {
		long = long[:0]
		for {
			part, err := r.ReadSlice('\n')
			long = append(long, part...)
			if err == nil || err == io.EOF && len(long) == 0 {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) && err != io.EOF {
				return err
			}
			if err == io.EOF || len(long) > maxCustody {
				v.altered(fileCustody, fmt.Sprintf("line %d has no end", n))
				return nil
			}
		}
		if len(long) == 0 {
			return nil
		}
		if err := v.record(withoutNewline(long), n); err != nil {
			return err
		}
	}
}

// record checks one line.
func (v *verifier) record(text []byte, n int) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	where := fmt.Sprintf("line %d", n)
	var l line
	if err := json.Unmarshal(text, &l); err != nil || l.V != Version {
		v.altered(fileCustody, where+" can't be read")
		return nil
	}
	v.r.Records++
	where += ", record " + l.ID.String()
	entry, ok, err := v.proof(l.Proof, l.Log, l.Number, l.Entry, where)
	if err != nil {
		return err
	}
	for i := range l.Late {
		late := &l.Late[i]
		e, ok, err := v.proof(late.Proof, l.Log, late.Number, late.Entry, where)
		if err != nil {
			return err
		}
		if ok && (e.ID != l.ID || late.Supplement != nil && record.SealOf(record.Sum(late.Supplement)) != e.Seal) {
			v.altered(fileCustody, where+": a supplement is not the one that the ledger has entered")
		}
	}
	if !ok {
		return nil
	}
	if entry.ID != l.ID {
		v.altered(fileCustody, where+": the entry is of another record")
		return nil
	}
	return v.sealed(&l, entry, where)
}

// sealed checks message and envelope against the entry.
func (v *verifier) sealed(l *line, e *record.Entry, where string) error {
	var seal record.Digest
	switch l.Decision {
	case Produced, Duplicate:
		if !fs.ValidPath(l.Native) {
			v.altered(fileCustody, where+": it names no file")
			return nil
		}
		sum, _, err := v.sum(l.Native)
		if errors.Is(err, fs.ErrNotExist) {
			v.missing(l.Native, fileCustody+", "+where+", names it")
			return nil
		} else if err != nil {
			return err
		}
		seal = record.SealOf(sum, record.Sum(l.Envelope))
	case Envelope:
		seal = record.SealOf(record.Sum(l.Envelope))
	case Withheld, Unreadable:
		return nil
	default:
		v.altered(fileCustody, fmt.Sprintf("%s: decision %q", where, l.Decision))
		return nil
	}
	if seal != e.Seal {
		name := l.Native
		if name == "" {
			name = fileCustody
		}
		v.altered(name, where+" of "+fileCustody+": message and envelope are not those that the ledger has entered")
		return nil
	}
	v.r.Messages++
	return nil
}

// proof checks the proof of an entry.
func (v *verifier) proof(name, log string, number uint64, entry []byte, where string) (*record.Entry, bool, error) {
	if v.key == nil {
		return nil, false, nil // said already
	}
	if !fs.ValidPath(name) {
		v.altered(fileCustody, where+": it names no proof")
		return nil, false, nil
	}
	f, err := v.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		v.missing(name, fileCustody+", "+where+", names it")
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTag))
	if err != nil {
		return nil, false, err
	}
	got, _, err := ledger.CheckProof(text, v.r.Archive, log, v.key)
	if err != nil {
		v.altered(name, err.Error())
		return nil, false, nil
	}
	if got.N != number || !bytes.Equal(got.Raw, entry) {
		v.altered(name, "it proves another entry than "+fileCustody+" has")
		return nil, false, nil
	}
	v.r.Proofs++
	return &got.Entry, true, nil
}
