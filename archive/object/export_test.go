package object

import "time"

// Impatient gives up on a connection sooner.
func Impatient(opt Options, patience time.Duration) Options {
	opt.patience = patience
	return opt
}
