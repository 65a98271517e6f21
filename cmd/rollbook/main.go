// Command rollbook runs the session service and is every operator's tool for it.
//
// The command line, the environment and the configuration file fill one struct (cli below, settings.go, configfile.go).
// `serve` (serve.go) puts the service together (house.go) and runs it, `engine` and `adapters` (roles.go) a part of it on a
// bus elsewhere, where `init` (init.go) has created the book; `user`, `resource`, `session` and `token`
// open the same book through a desk (desk.go): over the local listener of the instance that runs on the data directory,
// or, when none runs, with an embedded bus and a writer in their own process.
//
// Invariants:
//   - Flags, files and environment are read here and nowhere else; components get documented structs.
//   - A password is typed or comes by standard input, never as an argument, and is never printed.
//   - Results go to standard output; logs, questions and errors go to standard error, an error as one sentence.
//   - Only `serve` on an embedded bus creates a book by itself, in a directory where there is none; elsewhere `init` does.
//   - What runs is started once, in one place, and joined in order before the process ends.
//
// It is large because a program's commands cannot be imported from elsewhere: each group is a file and knows no other.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"rollbook/engine/session"
)

// The exit codes.
const (
	exitDone    = 0
	exitFailed  = 1 // the machine could not
	exitRefused = 2 // the command line or a setting is wrong, or the domain says no
)

const about = `One session authority for a trading platform's client protocols.

A setting is a flag, an environment variable, or a key of the file that --config
names; in this order the first that is given counts. docs/configuration.md lists
them all.

Exit codes: 0 done; 1 it failed, and trying again may help; 2 refused: the
command line or a setting is wrong, or the domain says no, and then its stable
code stands in brackets at the end of the sentence.`

// cli is the whole command line.
type cli struct {
	Config configFile  `help:"Read settings from this TOML file. An unknown key is an error. Empty: no file." placeholder:"FILE" env:"ROLLBOOK_CONFIG"`
	Log    logSettings `embed:"" prefix:"log-"`

	Serve     serveCommand     `cmd:"" help:"Run the service: all roles in this process."`
	Engine    engineCommand    `cmd:"" help:"Run writers alone, on a bus elsewhere."`
	Notary    notaryCommand    `cmd:"" help:"Sign what is in the book, on a bus elsewhere."`
	Audit     auditCommands    `cmd:"" help:"Look at what happened, and prove it."`
	Adapters  adaptersCommand  `cmd:"" help:"Run venues alone, on a bus elsewhere."`
	Webhooks  webhooksCommand  `cmd:"" help:"Run webhooks alone, on a bus elsewhere."`
	Init      initCommand      `cmd:"" help:"Create the book on a bus elsewhere, once."`
	User      userCommands     `cmd:"" help:"Manage who may log in."`
	Resource  resourceCommands `cmd:"" help:"Manage what clients can ask for."`
	Session   sessionCommands  `cmd:"" help:"See and end sessions."`
	Token     tokenCommands    `cmd:"" help:"Make one-time tokens."`
	Webhook   webhookCommands  `cmd:"" help:"See and mend the delivery of webhooks."`
	Backup    backupCommand    `cmd:"" help:"Copy the book and the directory into a file."`
	Restore   restoreCommand   `cmd:"" help:"Fill an empty place from a backup."`
	BusConfig busConfig        `cmd:"" help:"Print the configuration of a NATS server for the bus, with a user for each role."`
	Tail      tailCommand      `cmd:"" help:"Print the events as they happen."`
	Doctor    doctorCommand    `cmd:"" help:"Say what is wrong with a set-up."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:])) }

// run is the process: it parses, runs the command until it is done or a signal comes, and gives the exit code.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // from here on a second signal has its usual effect: the process ends at once
	}()
	parsed, err := parse(args)
	if err == nil {
		parsed.BindTo(ctx, (*context.Context)(nil))
		err = parsed.Run()
	}
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(os.Stderr, "rollbook: "+sentence(err))
	var no *refused
	if errors.As(err, &no) {
		return exitRefused
	}
	return exitFailed
}

// parse reads the command line, the environment and the file. Its errors are refusals. It ends the process for --help.
func parse(args []string) (*kong.Context, error) {
	parser, err := newParser(&cli{})
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return nil, refuse("usage", "%w", err)
	}
	return parsed, nil
}

func newParser(into *cli) (*kong.Kong, error) {
	return kong.New(into,
		kong.Name("rollbook"), kong.Description(about),
		kong.ConfigureHelp(kong.HelpOptions{NoAppDescFormat: true, WrapUpperBound: 100}), kong.ValueFormatter(explain),
	)
}

// explain is how help describes a flag: what it does, its default and its name in the environment.
func explain(value *kong.Value) string {
	var marks []string
	if value.Default != "" {
		marks = append(marks, "default "+value.Default)
	}
	for _, name := range value.Tag.Envs {
		marks = append(marks, "$"+name)
	}
	if len(marks) == 0 {
		return value.Help
	}
	return value.Help + " [" + strings.Join(marks, ", ") + "]"
}

// refused is a "no": what was asked for is wrong, and asking again gives the same answer.
type refused struct {
	code string // stable, for scripts: a session.Refusal's name, or one of this program's own
	err  error
}

func (r *refused) Error() string { return fmt.Sprintf("%v (%s)", r.err, r.code) }
func (r *refused) Unwrap() error { return r.err }

func refuse(code, format string, args ...any) error {
	return &refused{code, fmt.Errorf(format, args...)}
}

// refuseBy is nil for an accepted command, and else the engine's refusal of what was to be done.
func refuseBy(code session.Refusal, format string, args ...any) error {
	if code == session.Accepted {
		return nil
	}
	return refuse(code.String(), format, args...)
}

// sentence is an error on one line. It may hold a name that somebody has chosen.
func sentence(err error) string {
	return printable(strings.Join(strings.Fields(err.Error()), " "))
}
