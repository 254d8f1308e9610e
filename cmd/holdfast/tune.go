package main

import (
	"context"
	"os"
	"runtime"
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

// spareProcs is by how much the scheduler's processors outnumber the cores. Work of long breath, such as a pack that is compressed or a part of the
// index that is built, has its processor for 10 ms before Go takes it away, and a session that needs it for some microseconds waits as long. With
// processors to spare the kernel decides, which favours who has used little: the slowest of a hundred replies at 10 sessions on two cores came
// after half the time.
const spareProcs = 2

// tuneProcs sets the number of processors, unless the environment does (GOMAXPROCS).
func tuneProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcs)
	}
}

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
