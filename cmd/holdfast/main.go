// Command holdfast is a compliance archiving journal relay with a searchable store. This package only wires the others together and holds
// the command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for hosts without the system's zones

	"github.com/spf13/cobra"
)

// Exit codes, for scripts.
const (
	exitDone   = 0
	exitWanted = 1  // done, and something was found wanting
	exitFailed = 2  // not done
	exitUsage  = 64 // called wrongly
)

// version is set by the linker in releases.
var version = "devel"

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	tuneProcs()
	tuneMemory(ctx)
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var code exitCode
	if errors.As(err, &code) {
		if code.err != nil {
			fmt.Fprintln(os.Stderr, "holdfast:", code.err)
		}
		return code.code
	}
	fmt.Fprintln(os.Stderr, "holdfast:", err)
	return exitFailed
}

// exitCode is an error with an exit code of its own. A nil err prints nothing: all has been said.
type exitCode struct {
	code int
	err  error
}

func (e exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprint("exit ", e.code)
	}
	return e.err.Error()
}

func (e exitCode) Unwrap() error { return e.err }

// usage marks an error as a wrong call.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return exitCode{exitUsage, err}
}

// options are the flags that every command has.
type options struct {
	config string
	json   bool
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "A compliance archiving mail relay with a searchable store",
		Long: `Holdfast passes mail on to its real destination and keeps a copy of each message, with all that it saw of the delivery,
in packs on a disk or in an S3 bucket. Every record has an entry in a signed, append-only ledger.`,
		Example:       "  holdfast demo\n  holdfast init --config holdfast.yaml && holdfast serve --config holdfast.yaml",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&o.config, "config", os.Getenv("HOLDFAST_CONFIG"), "configuration file (YAML), also by HOLDFAST_CONFIG; without one embedded defaults: data in ./holdfast-data, keys in ./keys")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(
		initCommand(o), serveCommand(o), demoCommand(o), configCommand(o), searchCommand(o), getCommand(o), importCommand(o),
		proofCommand(o), verifyCommand(o), anchorCommand(o), replicateCommand(o), rebuildCommand(o), exportCommand(o), bundleCommand(o), queueCommand(o), retentionCommand(o), holdCommand(o), eraseCommand(o), matterCommand(o), tagCommand(o), smtpUserCommand(),
	)
	wrapUsage(root)
	return root
}

// wrapUsage makes wrong arguments exit with 64.
func wrapUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return usage(check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		wrapUsage(sub)
	}
}

// addJSON gives a command that prints data its --json.
func addJSON(cmd *cobra.Command, o *options) *cobra.Command {
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}
