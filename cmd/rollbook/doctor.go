package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	neturl "net/url"
	"os"
	"slices"
	"strings"

	"rollbook/bus"
)

type doctorCommand struct {
	place   `embed:""`
	keyFile `embed:""`
	Role    string `help:"The role whose credential this is: owner, engine, service, adapter, operator, auditor, notary, webhooks or consumer. Empty: it is found out." placeholder:"ROLE" default:""`
	JSON    bool   `help:"Print one JSON object a line." name:"json"`
}

// Help is shown by `doctor --help`.
func (doctorCommand) Help() string {
	return `It looks at a set-up and says what is wrong with it: secrets that others can read, the way to the bus, versions, what is
stored, whether acknowledged means on disk, copies, space, clocks, writers, snapshots, the feed, webhooks, the notary, and
what the credential may do. It works while the service runs and while it does not, and changes nothing. What a credential may
do is tried, in a way that has no effect; a server may log what it refuses.

Severities: ok; note, something to know; warning, it works and something is missing; error, it does not work or is not safe.

Exit codes: 0 no error was found; 1 one was; 2 the command line is wrong.`
}

// severity is how much a finding matters.
type severity string

const (
	fine    severity = "ok"
	note    severity = "note"
	warning severity = "warning"
	wrong   severity = "error"
)

// finding is one thing the doctor has to say. Why and Do are for what is not fine.
type finding struct {
	Severity severity `json:"severity"`
	Check    string   `json:"check"`
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`
	Do       string   `json:"do,omitempty"`
}

// Run examines the set-up.
func (c *doctorCommand) Run(ctx context.Context, app *cli) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Role != "" && (c.Role == string(bus.RoleSystem) || !slices.Contains(bus.Roles(), bus.Role(c.Role))) {
		return refuse("usage", "--role %s is none that rollbook uses a credential of: %v", c.Role, bus.Roles())
	}
	findings, err := c.examine(ctx, app.Log.logger(io.Discard, slog.LevelError)) // what the log would say, the findings do
	if err != nil {
		return err
	}
	if err := printFindings(os.Stdout, findings, c.JSON); err != nil {
		return err
	}
	errorsFound := 0
	for _, f := range findings {
		if f.Severity == wrong {
			errorsFound++
		}
	}
	if errorsFound > 0 {
		return fmt.Errorf("errors found: %d", errorsFound)
	}
	return nil
}

// examine looks at everything in turn. An error is a mistake on the command line.
func (c *doctorCommand) examine(ctx context.Context, log *slog.Logger) ([]finding, error) {
	findings := c.files()
	d, err := c.reach(ctx, log)
	var no *refused
	if errors.As(err, &no) && no.code == "not_created" {
		return nil, err
	}
	if err != nil {
		return append(findings, finding{wrong, "connection", sentence(err), "nothing else can be looked at, and no part of the service can work",
			"start the bus, or correct --bus, --creds and --bus-tls-..."}), nil
	}
	defer d.close()
	e := &examination{bus: d.bus, log: log, alone: d.own != nil, role: bus.Role(c.Role), unbounded: c.Bus == "", upgrade: c.upgradeWith(),
		patience: besidePatience, findings: findings}
	if c.Bus == "" && d.own == nil {
		dir, _ := c.dir()
		if at, ok := bus.FindRunning(dir); ok {
			e.add(listener(at))
		}
	} else if c.Bus != "" {
		e.connection()
	}
	e.all(ctx)
	return e.findings, nil
}

// reach opens the bus, and not yet the book.
func (c *doctorCommand) reach(ctx context.Context, log *slog.Logger) (*desk, error) {
	d := &desk{log: log}
	var err error
	if c.Bus != "" {
		d.bus, err = c.connect(ctx, "rollbook doctor", log)
	} else {
		err = d.openDir(ctx, c.place)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// listener is about where the embedded bus of a running service listens.
func listener(at string) finding {
	u, err := neturl.Parse(at)
	if err == nil && (loopback(u.Hostname()) || u.Scheme == "tls") {
		return finding{Severity: fine, Check: "listener", What: "the embedded bus listens at " + at}
	}
	return finding{warning, "listener", "the embedded bus listens beyond this machine in the clear, at " + at,
		"whoever is on the way can read and change what goes over it: password verifiers, commands, pages",
		"give it a certificate with --bus-listen-cert and --bus-listen-key, or listen on 127.0.0.1"}
}

func printFindings(to io.Writer, findings []finding, asJSON bool) error {
	if asJSON {
		return printJSONLines(to, findings)
	}
	t := table{header: []string{"SEVERITY", "CHECK", "WHAT"}, none: "nothing to look at"}
	for _, f := range findings {
		t.row(string(f.Severity), f.Check, f.What)
		if f.Why != "" {
			t.row("", "", "  why: "+f.Why)
		}
		if f.Do != "" {
			t.row("", "", "  do:  "+f.Do)
		}
	}
	return t.print(to)
}

// some lists a few names and how many more there are.
func some(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
