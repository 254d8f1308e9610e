package bundle

import (
	"fmt"
	"os"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// Privileged is a Review that a list gives. Safe for concurrent use.
type Privileged struct {
	Digest  record.Digest // of the list
	grounds map[record.ID]string
}

// ReadPrivileged reads a list: in each line the id of a record, and after a blank the ground on which it is withheld. Empty lines and those
// that begin with # are passed over.
func ReadPrivileged(path string) (*Privileged, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Privileged{Digest: record.Sum(text), grounds: map[record.ID]string{}}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		word, ground, _ := strings.Cut(line, " ")
		id, err := record.ParseID(word)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		p.grounds[id] = strings.TrimSpace(ground)
	}
	return p, nil
}

// Withhold is Review's.
func (p *Privileged) Withhold(id record.ID) (string, bool) {
	ground, ok := p.grounds[id]
	if ok && ground == "" {
		ground = "privileged"
	}
	return ground, ok
}

// ParsePerson reads a custodian as people write one: "Ada Lovelace: ada@acme.example, countess@acme.example".
func ParsePerson(text string) (Person, error) {
	name, rest, _ := strings.Cut(text, ":")
	p := Person{Name: strings.TrimSpace(name)}
	for a := range strings.SplitSeq(rest, ",") {
		if a = strings.TrimSpace(a); a != "" {
			p.Addresses = append(p.Addresses, a)
		}
	}
	if p.Name == "" || len(p.Addresses) == 0 {
		return Person{}, fmt.Errorf("custodian %q is not \"Name: address, address\": %w", text, ErrRequest)
	}
	return p, nil
}
