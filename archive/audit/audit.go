// Package audit writes down what people and schedules do, before it is done.
//
// An act is a record like mail: its body goes into a pack, encrypted where packs are, and the ledger commits to it. Do returns nil once
// the act is in custody; on any error the caller must not do what it announced.
package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-archive/holdfast/archive/record"
)

// ErrNotRecorded is returned when an act could not be put into custody. What it announces must not happen.
var ErrNotRecorded = errors.New("act not recorded")

// Custody takes acts; nil means on stable storage. The spool is one.
type Custody interface {
	AppendAct(ctx context.Context, act record.Act) error
}

// Log writes the acts of one node. Safe for concurrent use.
type Log struct {
	node    string
	custody Custody
	now     func() time.Time
}

// New gives the log of a node.
func New(node string, custody Custody) *Log { return &Log{node: node, custody: custody, now: time.Now} }

// Do puts an act into custody: kind (record.Act…), who, and what it says. The error is ErrNotRecorded.
func (l *Log) Do(ctx context.Context, kind string, by record.Actor, detail map[string]any) error {
	_, err := l.Record(ctx, kind, by, detail)
	return err
}

// Record is Do, and gives the act that is in custody.
func (l *Log) Record(ctx context.Context, kind string, by record.Actor, detail map[string]any) (record.Act, error) {
	now := l.now().UTC()
	act := record.Act{
		V: record.Version, ID: record.NewID(now), Kind: kind, Nonce: record.NewNonce(), Time: now,
		Node: l.node, Actor: by, Detail: detail,
	}
	if err := l.custody.AppendAct(ctx, act); err != nil {
		return record.Act{}, fmt.Errorf("%s by %s: %w: %w", kind, by.ID, ErrNotRecorded, err)
	}
	return act, nil
}
