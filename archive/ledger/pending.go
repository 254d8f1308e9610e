package ledger

import (
	"cmp"
	"fmt"
	"slices"
)

// pendingRuns puts runs of spool sequences in order, joins those that touch, and takes away those that a batch accounts for.
func pendingRuns(pending, done [][2]uint64) ([][2]uint64, error) {
	for _, r := range pending {
		if r[0] == 0 || r[0] > r[1] {
			return nil, fmt.Errorf("pending sequences %d to %d: not a run", r[0], r[1])
		}
	}
	done = joinRuns(done)
	var left [][2]uint64
	for _, r := range joinRuns(pending) {
		for len(done) > 0 && done[0][1] < r[0] {
			done = done[1:]
		}
		next, ended := r[0], false
		for _, d := range done {
			if d[0] > r[1] {
				break
			}
			if d[0] > next {
				left = append(left, [2]uint64{next, d[0] - 1})
			}
			if d[1] >= r[1] {
				ended = true
				break
			}
			next = max(next, d[1]+1)
		}
		if !ended {
			left = append(left, [2]uint64{next, r[1]})
		}
	}
	return left, nil
}

// joinRuns sorts runs and joins those that touch or overlap.
func joinRuns(runs [][2]uint64) (joined [][2]uint64) {
	runs = slices.SortedFunc(slices.Values(runs), func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	for _, r := range runs {
		if last := len(joined) - 1; last >= 0 && (r[0] <= joined[last][1] || r[0]-1 == joined[last][1]) {
			joined[last][1] = max(joined[last][1], r[1])
			continue
		}
		joined = append(joined, r)
	}
	return joined
}
