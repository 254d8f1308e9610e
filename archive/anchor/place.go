package anchor

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/archive/timestamp"
)

// Place is a store with anchors in it.
type Place struct {
	Name  string // for messages: "archive", or a URL
	Store object.Store
}

// read reads a small object whole.
func (p *Place) read(ctx context.Context, key string) ([]byte, error) {
	body, err := p.Store.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("%s: %w: more than %d bytes", key, ErrAnchor, maxDocument)
	}
	return text, err
}

func (p *Place) create(ctx context.Context, key string, text []byte, lock object.Lock) error {
	_, err := p.Store.Create(ctx, key, bytes.NewReader(text), lock)
	return err
}

// newest gives the anchor of a node that was made last, and whether there is a token for it; nil where there is none.
func (p *Place) newest(ctx context.Context, archive, node string, verifier note.Verifier) (a *Anchor, stamped bool, err error) {
	last, token := "", ""
	for info, err := range p.Store.List(ctx, prefix(archive)+node+"/", "") {
		switch {
		case err != nil:
			return nil, false, err
		case strings.HasSuffix(info.Key, suffixDocument):
			last = info.Key
		case strings.HasSuffix(info.Key, suffixToken):
			token = info.Key
		}
	}
	if last == "" {
		return nil, false, nil
	}
	text, err := p.read(ctx, last)
	if err != nil {
		return nil, false, err
	}
	a, err = parse(last, text, archive, verifier)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", last, err)
	}
	return a, token == tokenKey(last), nil
}

// held is what a place has of one anchor.
type held struct {
	anchor *Anchor
	token  *timestamp.Token
}

// all reads what a place has of an archive's anchors. found is told of each object that is not what it must be; only trouble with the store
// is an error.
func (p *Place) all(ctx context.Context, archive string, verifier note.Verifier, roots *x509.CertPool, found func(kind, key string, err error)) (map[record.Digest]*held, error) {
	have := map[record.Digest]*held{}
	documents := map[string]*held{}
	for info, err := range p.Store.List(ctx, prefix(archive), "") {
		if err != nil {
			return nil, err
		}
		document, isDocument := strings.CutSuffix(info.Key, suffixDocument)
		stem, isToken := strings.CutSuffix(info.Key, suffixToken)
		if !isDocument && !isToken {
			found(KindAltered, info.Key, fmt.Errorf("%w: no such name", ErrAnchor))
			continue
		}
		text, err := p.read(ctx, info.Key)
		if err != nil && !errors.Is(err, ErrAnchor) && !errors.Is(err, object.ErrMismatch) && !errors.Is(err, object.ErrNotFound) {
			return nil, err
		}
		if isDocument {
			var a *Anchor
			if err == nil {
				a, err = parse(info.Key, text, archive, verifier)
			}
			if err != nil {
				found(KindAltered, info.Key, err)
				continue
			}
			a.Document = nil
			h := &held{anchor: a}
			have[a.SHA256], documents[document] = h, h
			continue
		}
		h := documents[stem] // .json comes before .tst
		if h == nil {
			found(KindMissing, stem+suffixDocument, errors.New("there is a token for it"))
			continue
		}
		if err == nil {
			h.token, err = timestamp.Verify(text, h.anchor.SHA256, roots)
		}
		if errors.Is(err, timestamp.ErrCertificate) {
			found(KindUntrusted, info.Key, err)
		} else if err != nil {
			found(KindAltered, info.Key, err)
		}
		if err != nil {
			h.token = nil
		}
	}
	return have, nil
}

// stampedAt is when it was stamped, or zero.
func (h *held) stampedAt() time.Time {
	if h == nil || h.token == nil {
		return time.Time{}
	}
	return h.token.Time
}
