package ledger

import (
	"context"
	"strings"

	"github.com/holdfast-archive/holdfast/archive/object"
)

// Logs finds the names of all logs in a store, in their order, by one short listing for each.
func Logs(ctx context.Context, store object.Store) ([]string, error) {
	var logs []string
	for after := ""; ; {
		found := false
		for info, err := range store.List(ctx, "ledger/", after) {
			if err != nil {
				return nil, err
			}
			log, _, _ := strings.Cut(strings.TrimPrefix(info.Key, "ledger/"), "/")
			logs = append(logs, log)
			after, found = "ledger/"+log+"/\xff", true
			break
		}
		if !found {
			return logs, nil
		}
	}
}
