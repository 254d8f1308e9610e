package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfast-archive/holdfast/journal/smtpd"
)

func smtpUserCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "smtp-user NAME",
		Short: "Make a line of the file of a listener's SMTP users",
		Long: `Print a line for the file that a listener's auth.users names: the user's name, and the password's hash by argon2id. The password is
asked for on a terminal, and is otherwise the first line of standard input. A server that runs reads the file again when it changes.`,
		Example: "  holdfast smtp-user printer@example.com >> users.txt\n  holdfast smtp-user ann < password.txt >> users.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			line, err := smtpd.UserLine(args[0], password)
			if err != nil {
				return usage(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
}

// readPassword asks twice on a terminal, and reads a line otherwise.
func readPassword(cmd *cobra.Command) (string, error) {
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var said [2]string
		for i, prompt := range []string{"Password: ", "Again: "} {
			fmt.Fprint(cmd.ErrOrStderr(), prompt)
			b, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(cmd.ErrOrStderr())
			if err != nil {
				return "", fmt.Errorf("password: %w", err)
			}
			said[i] = string(b)
		}
		if said[0] != said[1] {
			return "", errors.New("the two passwords are not the same")
		}
		return said[0], nil
	}
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
