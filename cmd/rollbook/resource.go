package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"rollbook/engine/session"
)

type resourceCommands struct {
	Apply  resourceApply  `cmd:"" help:"Define the resources of a file."`
	List   resourceList   `cmd:"" help:"List the resources."`
	Show   resourceShow   `cmd:"" help:"Show one resource with its fields."`
	Remove resourceRemove `cmd:"" help:"Remove resources."`
}

// homeOfResources is the partition whose book has all resources.
const homeOfResources = 0

type resourceApply struct {
	place `embed:""`
	File  string `arg:"" help:"A .json or .toml file, or - for JSON from standard input."`
	JSON  bool   `help:"Print one JSON object a line." name:"json"`
}

// Help is shown by `resource apply --help`.
func (resourceApply) Help() string {
	return `Each resource of the file is added, or takes the place of the one of its name; others stay as they are. Clients
get the list in the order in which resources were first added. What is wrong anywhere in the file is said before
anything is done.

    {"resources": [
      {"name": "MY_TRADES", "type": "DATASERVER", "description": "The user's trades.",
       "fields": [
         {"name": "TRADE_ID", "type": "STRING", "label": "Trade"},
         {"name": "DIRECTION", "type": "ENUM", "valid_values": ["BUY", "SELL"]},
         {"name": "PRICE", "type": "DOUBLE", "nullable": true}]},
      {"name": "COUNTERPARTY_DETAILS", "type": "REQUEST_SERVER",
       "request": [{"name": "ID", "type": "STRING"}],
       "reply": [{"name": "NAME", "type": "STRING", "read_only": true}]}]}

type: EVENT_HANDLER, REQUEST_SERVER or DATASERVER. A request server has request and reply, the others have fields. Of a
field, name and type are needed; description, label, valid_values, optional, nullable and read_only are not.
rollbook resource show NAME --json prints what this command reads.`
}

// Run defines what differs from the book, in the order of the file.
func (c *resourceApply) Run(ctx context.Context, app *cli) error {
	wanted, err := readResources(ctx, c.File)
	if err != nil {
		return err
	}
	return c.at(ctx, app, func(d *desk) error {
		return applyResources(ctx, d, wanted, func(name session.ResourceName, done string) error {
			if c.JSON {
				return printJSON(os.Stdout, map[string]any{"name": name, "result": done})
			}
			_, err := fmt.Printf("%-9s  %s\n", done, printable(string(name)))
			return err
		})
	})
}

// applyResources defines the resources that are not in the book in this form, and tells of each what was done. A crash
// in between leaves the rest undone, and the same again does it.
func applyResources(ctx context.Context, d *desk, wanted []session.Resource, tell func(session.ResourceName, string) error) error {
	l, err := d.ledger(ctx)
	if err != nil {
		return err
	}
	for _, r := range wanted {
		done := "unchanged"
		stored, known := l.resources.Named(r.Name)
		if !known || !reflect.DeepEqual(describe(stored), describe(r)) {
			if done = "added"; known {
				done = "changed"
			}
			reply, err := d.do(ctx, homeOfResources, &session.DefineResource{Resource: r})
			if err == nil {
				err = refuseBy(reply.Refusal, "resource %s", r.Name)
			}
			if err != nil {
				return err
			}
		}
		if err := tell(r.Name, done); err != nil {
			return err
		}
	}
	return nil
}

type resourceList struct {
	place `embed:""`
	JSON  bool `help:"Print one JSON object a line, in the form that apply reads." name:"json"`
}

// Run lists the resources in the order in which clients get them.
func (c *resourceList) Run(ctx context.Context, app *cli) error {
	return c.at(ctx, app, func(d *desk) error {
		l, err := d.ledger(ctx)
		if err != nil {
			return err
		}
		all := l.resources.All()
		if c.JSON {
			for _, r := range all {
				if err := printJSON(os.Stdout, describe(r)); err != nil {
					return err
				}
			}
			return nil
		}
		t := table{header: []string{"NAME", "TYPE", "FIELDS", "DESCRIPTION"}, none: "no resources: add some with rollbook resource apply FILE"}
		for _, r := range all {
			t.row(string(r.Name), r.Kind.String(), fmt.Sprint(len(r.Fields)+len(r.Request)+len(r.Reply)), r.Description)
		}
		return t.print(os.Stdout)
	})
}

type resourceShow struct {
	place `embed:""`
	Name  string `arg:"" help:"The resource."`
	JSON  bool   `help:"Print one JSON object, in the form that apply reads." name:"json"`
}

// Run shows a resource.
func (c *resourceShow) Run(ctx context.Context, app *cli) error {
	return c.at(ctx, app, func(d *desk) error {
		l, err := d.ledger(ctx)
		if err != nil {
			return err
		}
		r, ok := l.resources.Named(session.ResourceName(c.Name))
		switch {
		case !ok:
			return refuse(session.UnknownResource.String(), "there is no resource %q", c.Name)
		case c.JSON:
			return printJSON(os.Stdout, describe(r))
		}
		return showResource(os.Stdout, r)
	})
}

func showResource(to io.Writer, r session.Resource) error {
	line := fmt.Sprintf("%s, %s", r.Name, r.Kind)
	if r.Description != "" {
		line += ": " + r.Description
	}
	if _, err := fmt.Fprintln(to, printable(line)); err != nil {
		return err
	}
	for _, list := range []struct {
		title  string
		fields []session.Field
	}{{"FIELD", r.Fields}, {"REQUEST FIELD", r.Request}, {"REPLY FIELD", r.Reply}} {
		if len(list.fields) == 0 {
			continue
		}
		t := table{header: []string{list.title, "TYPE", "MARKS", "DESCRIPTION"}}
		for _, f := range list.fields {
			t.row(f.Name, f.Type, marksOf(f), f.Description)
		}
		fmt.Fprintln(to)
		if err := t.print(to); err != nil {
			return err
		}
	}
	return nil
}

// marksOf is what else is true of a field, in a few words.
func marksOf(f session.Field) string {
	var marks []string
	if f.Optional {
		marks = append(marks, "optional")
	}
	if f.Nullable {
		marks = append(marks, "nullable")
	}
	if f.ReadOnly {
		marks = append(marks, "read only")
	}
	if len(f.ValidValues) > 0 {
		marks = append(marks, strings.Join(f.ValidValues, "|"))
	}
	if len(marks) == 0 {
		return "-"
	}
	return strings.Join(marks, ", ")
}

type resourceRemove struct {
	place `embed:""`
	Name  []string `arg:"" help:"The resources."`
}

// Run removes resources, one after the other.
func (c *resourceRemove) Run(ctx context.Context, app *cli) error {
	return c.at(ctx, app, func(d *desk) error {
		for _, name := range c.Name {
			reply, err := d.do(ctx, homeOfResources, &session.RemoveResource{Name: session.ResourceName(name)})
			if err != nil {
				return err
			}
			if err := refuseBy(reply.Refusal, "resource %q is not there", name); err != nil {
				return err
			}
			fmt.Println("removed    " + printable(name))
		}
		return nil
	})
}
