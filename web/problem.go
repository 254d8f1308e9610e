package web

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/audit"
	"github.com/holdfast-archive/holdfast/archive/bundle"
	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/message"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/pack"
	"github.com/holdfast-archive/holdfast/archive/record"
	"github.com/holdfast-archive/holdfast/index"
	"github.com/holdfast-archive/holdfast/search"
	"github.com/holdfast-archive/holdfast/search/syntax"
)

// Problem is the JSON of an error. Status is its HTTP code.
type Problem struct {
	Status int    `json:"status"`
	Error  string `json:"error"`
	Pos    *int   `json:"pos,omitempty"` // in a query: characters before the fault
	Len    int    `json:"len,omitempty"`
	Hint   string `json:"hint,omitempty"`
	Ref    string `json:"ref,omitempty"` // the cause stands in the log under this
}

// What requests are refused for here. Their texts are for the asker.
var (
	errBadRequest  = errors.New("bad request")
	errNoRoute     = errors.New("there is nothing at this address")
	errMethod      = errors.New("this address can only be read")
	errNobody      = errors.New("nobody to act on behalf of")
	errUnavailable = errors.New("not available in this process")
	errNotMessage  = errors.New("this record is an act, not a message")
	errNoMessage   = errors.New("only the envelope of this message was kept")
	errNoHTML      = errors.New("this message has no HTML")
	errNoInner     = errors.New("no such message in this record: it is no journal report, or encloses none of that number")
)

// asked are the errors whose text says nothing but what the asker sent.
var asked = []error{record.ErrID, search.ErrCursor, search.ErrSort, search.ErrFacet, search.ErrNoSet, bundle.ErrExists, bundle.ErrOther, bundle.ErrRequest,
	errBadRequest}

const hintVerify = "run holdfast verify --full: it names what was altered or is missing"

// faults map errors to HTTP, the first that fits. Their text is what a stranger may see: the errors themselves name keys and paths.
var faults = []struct {
	is         error
	status     int
	text, hint string
}{
	{audit.ErrNotRecorded, http.StatusServiceUnavailable, "this could not be written down, so nothing is shown",
		"nothing is shown that can't be written down first; is the disk full?"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "it took too long", "ask for less, or try again"},
	{context.Canceled, 499, "cancelled", ""},
	{index.ErrClosed, http.StatusServiceUnavailable, "the index can't be asked now", "it is being opened or closed; try again"},
	{index.ErrCorrupt, http.StatusServiceUnavailable, "the index is damaged", "run holdfast rebuild: it makes the index again from the archive"},
	{errNotMessage, http.StatusNotFound, errNotMessage.Error(), "its text is under /api/v1/records/"},
	{errNoMessage, http.StatusNotFound, errNoMessage.Error(), "keep_refused: full keeps refused messages too"},
	{errNoHTML, http.StatusNotFound, errNoHTML.Error(), ""},
	{errNoInner, http.StatusNotFound, errNoInner.Error(), "without inner it is the message as received"},
	{errNoRoute, http.StatusNotFound, errNoRoute.Error(), ""},
	{errMethod, http.StatusMethodNotAllowed, errMethod.Error(), ""},
	{errNobody, http.StatusForbidden, errNobody.Error(), ""},
	{archive.ErrNotFound, http.StatusNotFound, "no such record",
		"the id may be of another archive, or the record was destroyed when its time had come"},
	{message.ErrNoPart, http.StatusNotFound, "this message has no such part", ""},
	{archive.ErrPending, http.StatusConflict, "this record is in local custody and not yet in the archive",
		"it is committed within archive.seal_after; then it has a proof"},
	{pack.ErrNoIdentity, http.StatusServiceUnavailable, "the archive is encrypted, and this node has no identity that opens it",
		"identity.txt in keys_dir is missing or of another archive"},
	{archive.ErrAltered, http.StatusBadGateway, "this record is not what the ledger says it was", hintVerify},
	{ledger.ErrAltered, http.StatusBadGateway, "the ledger is not what it was", hintVerify},
	{ledger.ErrMissing, http.StatusBadGateway, "the ledger is incomplete", hintVerify},
	{pack.ErrCorrupt, http.StatusBadGateway, "the pack of this record is damaged", hintVerify},
	{pack.ErrNotFound, http.StatusBadGateway, "the pack of this record does not have it", hintVerify},
	{object.ErrMismatch, http.StatusBadGateway, "an object of the archive is not what it was", hintVerify},
	{object.ErrNotFound, http.StatusBadGateway, "an object of the archive is missing", hintVerify},
	{errUnavailable, http.StatusServiceUnavailable, errUnavailable.Error(), ""},
}

// problem maps errors to HTTP: the one place that does. The causes of what is not the asker's own fault go to the log under a reference;
// who may see errors whole gets them instead.
func problem(err error, whole bool, log *slog.Logger) *Problem {
	var syn *syntax.Error
	if errors.As(err, &syn) {
		return &Problem{Status: http.StatusBadRequest, Error: syn.Msg, Pos: &syn.Pos, Len: syn.Len, Hint: syn.Hint}
	}
	for _, is := range asked {
		if errors.Is(err, is) {
			return &Problem{Status: http.StatusBadRequest, Error: err.Error()}
		}
	}
	p := &Problem{Status: http.StatusInternalServerError, Error: "internal error"}
	if errors.Is(err, index.ErrTooBroad) {
		p = &Problem{Status: http.StatusBadRequest, Error: err.Error(), Hint: "give more letters before the *"}
	}
	for _, f := range faults {
		if errors.Is(err, f.is) {
			p = &Problem{Status: f.status, Error: f.text, Hint: f.hint}
			break
		}
	}
	switch {
	case whole:
		p.Error = err.Error()
	case p.Status >= http.StatusInternalServerError:
		p.Ref = rand.Text()[:8]
		log.Error("request failed", "ref", p.Ref, "err", err)
	}
	return p
}
