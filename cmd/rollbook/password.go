package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxInput bounds a line that is read: far beyond any password that the directory accepts.
const maxInput = 64 << 10

// errInterrupted says that a signal came before anything was done.
var errInterrupted = errors.New("interrupted: nothing was done")

// readPassword asks for a new password twice, without showing it, when standard input is a terminal; else, and with
// stdin set, it reads one line from there.
func readPassword(ctx context.Context, stdin bool) (string, error) {
	fd := int(os.Stdin.Fd())
	if stdin || !term.IsTerminal(fd) {
		line, err := await(ctx, func() (string, error) { return readLine(os.Stdin) })
		if err != nil {
			return "", fmt.Errorf("read the password from standard input: %w", err)
		}
		if line == "" {
			return "", refuse("bad_password", "there is no password on standard input")
		}
		return line, nil
	}
	first, err := askHidden(ctx, fd, "New password: ")
	if err != nil {
		return "", err
	}
	second, err := askHidden(ctx, fd, "The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", refuse("bad_password", "the two passwords differ: nothing was done")
	}
	return first, nil
}

// readLine reads one line without its end.
func readLine(from io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(from, maxInput)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), err
}

// askHidden reads a line from the terminal without showing it. When a signal comes meanwhile, the terminal goes back to
// showing what is typed.
func askHidden(ctx context.Context, fd int, question string) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, err := ask(ctx, question, func() (string, error) {
		text, err := term.ReadPassword(fd)
		return string(text), err
	})
	fmt.Fprintln(os.Stderr)
	if ctx.Err() != nil {
		err = errors.Join(err, term.Restore(fd, before))
	}
	return line, err
}

// ask puts a question on standard error and gives the answer.
func ask(ctx context.Context, question string, read func() (string, error)) (string, error) {
	fmt.Fprint(os.Stderr, question)
	line, err := await(ctx, read)
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return line, nil
}

// await gives what is read from a terminal or a pipe, or an error when a signal comes first: then the goroutine that
// reads ends with the process. Before anything is read nothing has been done.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type input struct {
		value T
		err   error
	}
	came := make(chan input, 1)
	go func() {
		value, err := read()
		came <- input{value, err}
	}()
	select {
	case in := <-came:
		return in.value, in.err
	case <-ctx.Done():
		var none T
		return none, errInterrupted
	}
}

// confirm asks for a yes on the terminal. Without a terminal nobody can be asked, and the answer is a refusal that says
// how to mean it.
func confirm(ctx context.Context, what string, yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return refuse("unconfirmed", "nothing was done. %s Add --yes to go on", what)
	}
	line, err := ask(ctx, what+" Go on? [y/N] ", func() (string, error) { return readLine(os.Stdin) })
	if err != nil {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return refuse("unconfirmed", "nothing was done")
	}
	return nil
}
