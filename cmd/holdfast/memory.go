package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector runs seldom while the heap is small, and often enough that the process stays near memoryGoal as long as what is alive is
// less than half of that. Mail makes much garbage and keeps little of it.
const (
	gcPercent   = 300
	memoryGoal  = 256 << 20 // bytes
	memoryTuned = 2 * time.Second
)

// tuneMemory sets the collector, unless the environment does (GOGC, GOMEMLIMIT), and keeps its limit well above what is alive: a limit
// below that would have it run all the time.
func tuneMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryGoal)
	go func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		limit := int64(memoryGoal)
		for sleep(ctx, memoryTuned) == nil {
			metrics.Read(live)
			if want := max(memoryGoal, 2*int64(live[0].Value.Uint64())); want > limit || want < limit/2 {
				limit = want
				debug.SetMemoryLimit(limit)
			}
		}
	}()
}
