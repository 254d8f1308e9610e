package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-archive/holdfast/archive/ledger"
	"github.com/holdfast-archive/holdfast/archive/object"
	"github.com/holdfast-archive/holdfast/archive/record"
)

// ErrEscrow is returned where packs are to be encrypted and nobody said who else can read them.
var ErrEscrow = errors.New("if keys_dir is lost, nobody can read the archive: name the recipient of an offline key (--recipient age1…), or say --no-escrow")

// InitOptions say how an archive is made.
type InitOptions struct {
	Config   Config
	Store    Store
	KeysDir  string
	Encrypt  bool
	Offline  []string // age recipients whose identities are kept away from the node
	NoEscrow bool
	Software string
	Now      time.Time
}

// Validate says what is wrong with the options before anything is made: ErrEscrow, or a recipient that is none.
func (o InitOptions) Validate() error {
	if o.Encrypt && len(o.Offline) == 0 && len(o.Config.Recipients) == 0 && !o.NoEscrow {
		return ErrEscrow
	}
	if _, err := parseRecipients(o.Offline, o.Config.Recipients); err != nil {
		return fmt.Errorf("recipient: %w", err)
	}
	return nil
}

// Create makes an archive: keys in keys_dir, then commit 0 of the log of acts, which is what makes it exist, then that of the node's own
// log. On an archive that exists, with the keys of that archive, it adds the node's log and nothing else. ledger.ErrExists where that
// exists too.
func Create(ctx context.Context, o InitOptions) (*record.Init, *Keys, error) {
	if err := o.Validate(); err != nil {
		return nil, nil, err
	}
	if _, err := o.Store.Stat(ctx, ledger.CommitKey(LogActs, 0)); err == nil {
		return join(ctx, o)
	} else if !errors.Is(err, object.ErrNotFound) {
		return nil, nil, err
	}
	id := newArchiveID()
	keys, err := makeKeys(o.KeysDir, id)
	if err != nil {
		return nil, nil, err
	}
	init := record.Init{Archive: id, Log: LogActs, Key: keys.Verifier, Escrow: len(o.Offline)+len(o.Config.Recipients) > 0, Software: o.Software}
	if o.Encrypt {
		init.Recipients = append([]string{keys.Recipient}, o.Offline...)
	}
	if err := createLog(ctx, o, keys, init); err != nil {
		return nil, nil, err
	}
	node := init
	node.Log = NodeLog(o.Config.Node)
	return &init, keys, createLog(ctx, o, keys, node)
}

// join adds a node to an archive that exists.
func join(ctx context.Context, o InitOptions) (*record.Init, *Keys, error) {
	keys, err := LoadKeys(o.KeysDir)
	if err != nil {
		return nil, nil, fmt.Errorf("there is an archive in this store already, and its keys are not in keys_dir %s: put them there, or choose another store: %w", o.KeysDir, ErrNoKeys)
	}
	init, err := readInit(ctx, o.Store, keys)
	if err != nil {
		return nil, nil, err
	}
	if keys.Signer == nil {
		return nil, nil, fmt.Errorf("keys_dir %s: no %s: %w", keys.Dir, fileSigner, ErrNoKeys)
	}
	if o.Encrypt && len(init.Recipients) == 0 {
		return nil, nil, errors.New("there is an archive in this store already, and its packs are not encrypted: that was settled when it was made")
	}
	for _, r := range o.Offline {
		if !slices.Contains(init.Recipients, r) {
			return nil, nil, fmt.Errorf("there is an archive in this store already, and %s is none of its recipients: archive.recipients adds to them", r)
		}
	}
	node := *init
	node.Log = NodeLog(o.Config.Node)
	return init, keys, createLog(ctx, o, keys, node)
}

// createLog writes commit 0 of a log and publishes its first checkpoint.
func createLog(ctx context.Context, o InitOptions, keys *Keys, init record.Init) error {
	if err := ledger.Create(ctx, o.Store, keys.Signer, init, LedgerLock(o.Config, o.Now), o.Now); err != nil {
		return err
	}
	log, err := ledger.Open(ctx, ledger.Config{
		Store: o.Store, Log: init.Log, Archive: init.Archive, Verifier: keys.verifierKey, Signer: keys.Signer, Publisher: o.Store,
	})
	if err != nil {
		return err
	}
	return log.Close(ctx)
}

// Check says whether there is an archive in the store and these are its keys; nothing is made or changed. ledger.ErrNoLog, ledger.ErrKey.
func Check(ctx context.Context, store object.Store, keys *Keys) error {
	_, err := readInit(ctx, store, keys)
	return err
}

// Identify gives what the archive in the store was made with, after Check.
func Identify(ctx context.Context, store object.Store, keys *Keys) (*record.Init, error) {
	return readInit(ctx, store, keys)
}

// readInit reads what the archive was made with and checks that these are its keys.
func readInit(ctx context.Context, store object.Store, keys *Keys) (*record.Init, error) {
	r, err := ledger.NewReader(ledger.Config{Store: store, Log: LogActs, Verifier: keys.verifierKey})
	if err != nil {
		return nil, err
	}
	init, err := r.Init(ctx)
	if err != nil {
		return nil, fmt.Errorf("archive, with the keys of %s: %w", keys.Dir, err)
	}
	return &init, nil
}

// openLog opens a log of this archive for writing.
func (a *Archive) openLog(ctx context.Context, name string) (*ledger.Log, error) {
	log, err := ledger.Open(ctx, ledger.Config{
		Store: a.store, Log: name, Archive: a.init.Archive, Verifier: a.keys.verifierKey, Signer: a.keys.Signer, Publisher: a.store,
		Now: a.now, Logger: a.slog, Lock: func() object.Lock { return LedgerLock(a.cfg, a.now()) },
	})
	if errors.Is(err, ledger.ErrNoLog) {
		return nil, fmt.Errorf("node %q has no log in this archive; holdfast init adds one: %w", a.cfg.Node, err)
	}
	return log, err
}
