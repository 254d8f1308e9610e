package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector runs seldom while the heap is small, and often enough that the process stays near memoryGoal, or near what is alive where that
// is more. Mail makes much garbage and keeps little of it.
const (
	gcPercent   = 300
	memoryGoal  = 256 << 20 // bytes
	memoryTuned = 2 * time.Second
)

// tuneMemory sets the collector, unless the environment does (GOGC, GOMEMLIMIT), and keeps its limit above what is alive: a limit
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
			alive := int64(live[0].Value.Uint64())
			if want := max(memoryGoal, alive+alive/4); want > limit || want < limit/2 {
				limit = want
				debug.SetMemoryLimit(limit)
			}
		}
	}()
}
