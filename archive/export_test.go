package archive

import "time"

// SetFirstPause changes how long a first failure is waited for, and gives what it was.
func SetFirstPause(d time.Duration) (before time.Duration) {
	before, firstPause = firstPause, d
	return before
}
