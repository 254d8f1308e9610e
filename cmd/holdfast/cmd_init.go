package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-archive/holdfast/archive"
	"github.com/holdfast-archive/holdfast/archive/object"
)

func initCommand(o *options) *cobra.Command {
	var encrypt, noEscrow bool
	var recipients []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make keys and an empty archive",
		Long: `Make the keys in keys_dir and an empty archive in the store. This is the one act that makes an archive: every other command refuses to
work on what is not there. On an archive that exists, and with its keys, init adds this node's log.
With --encrypt packs are encrypted to the identity in keys_dir and to the recipients given.`,
		Example: "  holdfast init --config holdfast.yaml\n  holdfast init --encrypt --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			if (len(recipients) > 0 || noEscrow) && !encrypt {
				return usage(fmt.Errorf("--recipient and --no-escrow go with --encrypt"))
			}
			init, err := initArchive(cmd, cfg, archive.InitOptions{Encrypt: encrypt, Offline: recipients, NoEscrow: noEscrow})
			if err != nil {
				return err
			}
			if o.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(init)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "archive %s in %s\n", init.Archive, cfg.Archive.Store)
			fmt.Fprintf(cmd.OutOrStdout(), "keys in %s: back them up, and keep them apart from the archive\n", cfg.KeysDir)
			if len(init.Recipients) > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "packs are encrypted to %s\n", strings.Join(init.Recipients, ", "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt packs")
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "age recipient of an offline key that can read the archive too (repeatable)")
	cmd.Flags().BoolVar(&noEscrow, "no-escrow", false, "encrypt to the identity in keys_dir alone: if it is lost, so is the mail")
	return addJSON(cmd, o)
}

// initReport is what init says in JSON.
type initReport struct {
	Archive    string   `json:"archive"`
	Store      string   `json:"store"`
	KeysDir    string   `json:"keys_dir"`
	Key        string   `json:"key"`
	Recipients []string `json:"recipients"`
}

func initArchive(cmd *cobra.Command, cfg *config, io archive.InitOptions) (*initReport, error) {
	io.Config = cfg.Archive
	if err := io.Validate(); err != nil { // before anything is made
		return nil, usage(err)
	}
	lock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	store, err := object.Make(cmd.Context(), cfg.Archive.Store, object.Options{SingleWriter: cfg.Archive.SingleWriter})
	if err != nil {
		return nil, err
	}
	io.Store, io.KeysDir, io.Software, io.Now = store, cfg.KeysDir, "holdfast "+version, time.Now()
	init, _, err := archive.Create(cmd.Context(), io)
	if err != nil {
		return nil, fmt.Errorf("init %s: %w", cfg.Archive.Store, err)
	}
	return &initReport{init.Archive, cfg.Archive.Store, cfg.KeysDir, init.Key, append([]string{}, init.Recipients...)}, nil
}

func configCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configuration", Args: cobra.NoArgs,
		Example: "  holdfast config check --config holdfast.yaml",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var store bool
	check := &cobra.Command{
		Use:   "check",
		Short: "Name every fault of the configuration at once",
		Long: `Read the configuration and name every fault at once, each with its key and value. With --store the object store is probed too: what the
archive rests on is tried on throwaway objects under probe/, and with archive.object_lock every way that is known to destroy what is
locked. That takes some seconds. Exit code 0: no fault; 1: some, or the store does not keep what is locked.`,
		Example: "  holdfast config check --config holdfast.yaml\n  holdfast config check --store --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(o.config)
			var v *verdict
			if err == nil && store {
				var found verdict
				found, err = checkStore(cmd.Context(), cfg)
				v = &found
			}
			wanting := err != nil || v != nil && len(v.Weak) > 0
			if o.json {
				faults := []string{}
				if err != nil {
					faults = faultsOf(err)
				}
				answer := map[string]any{"ok": !wanting, "faults": faults}
				if v != nil {
					answer["store"] = v
				}
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(answer); err != nil {
					return err
				}
				err = nil
			} else if v != nil && v.Store != "" {
				v.print(cmd.OutOrStdout())
			}
			if wanting {
				return exitCode{exitWanted, err}
			}
			if !o.json {
				fmt.Fprintln(cmd.OutOrStdout(), "ok")
			}
			return nil
		},
	}
	check.Flags().BoolVar(&store, "store", false, "probe the object store too")
	cmd.AddCommand(addJSON(check, o))
	return cmd
}

// faultsOf gives the faults of a configuration one by one, without the line that names the file.
func faultsOf(err error) []string {
	text := err.Error()
	if _, list, ok := strings.Cut(text, ":\n"); ok {
		text = list
	}
	return strings.Split(text, "\n")
}
