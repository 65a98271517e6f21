package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/BurntSushi/toml"

	"rollbook/engine/session"
)

// resourceFile is the file that `resource apply` reads, as JSON or TOML.
type resourceFile struct {
	Resources []resourceText `json:"resources" toml:"resources"`
}

// resourceText is a resource as files and --json have it: [session.Resource].
type resourceText struct {
	Name        string      `json:"name" toml:"name"`
	Type        string      `json:"type" toml:"type"`
	Description string      `json:"description,omitempty" toml:"description"`
	Fields      []fieldText `json:"fields,omitempty" toml:"fields"`
	Request     []fieldText `json:"request,omitempty" toml:"request"`
	Reply       []fieldText `json:"reply,omitempty" toml:"reply"`
}

// fieldText is [session.Field].
type fieldText struct {
	Name        string   `json:"name" toml:"name"`
	Type        string   `json:"type" toml:"type"`
	Description string   `json:"description,omitempty" toml:"description"`
	Label       string   `json:"label,omitempty" toml:"label"`
	ValidValues []string `json:"valid_values,omitempty" toml:"valid_values"`
	Optional    bool     `json:"optional,omitempty" toml:"optional"`
	Nullable    bool     `json:"nullable,omitempty" toml:"nullable"`
	ReadOnly    bool     `json:"read_only,omitempty" toml:"read_only"`
}

// readResources reads a file; "-" is JSON on standard input. A path that cannot be meant is refused like what stands in a
// wrong file.
func readResources(ctx context.Context, path string) ([]session.Resource, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = await(ctx, func() ([]byte, error) { return io.ReadAll(os.Stdin) })
	} else {
		text, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EISDIR):
		return nil, refuse("bad_resources", "read the resources: %w", err)
	case err != nil:
		return nil, fmt.Errorf("read the resources: %w", err)
	}
	list, err := parseResources(text, filepath.Ext(path) == ".toml")
	if err != nil {
		return nil, refuse("bad_resources", "%s: %w", path, err)
	}
	return list, nil
}

// parseResources refuses keys it does not know, what is no valid resource, and a name that stands twice.
func parseResources(text []byte, isTOML bool) ([]session.Resource, error) {
	var file resourceFile
	if isTOML {
		meta, err := toml.Decode(string(text), &file)
		if err != nil {
			return nil, err
		}
		if unknown := meta.Undecoded(); len(unknown) > 0 {
			return nil, fmt.Errorf("unknown key %q", unknown[0].String())
		}
	} else {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&file); err != nil {
			return nil, err
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("something stands behind the JSON object")
		}
	}
	if len(file.Resources) == 0 {
		return nil, errors.New("there are no resources in it")
	}
	list := make([]session.Resource, 0, len(file.Resources))
	seen := map[session.ResourceName]bool{}
	for _, t := range file.Resources {
		kind, err := session.ParseResourceKind(t.Type)
		if err != nil {
			return nil, fmt.Errorf("resource %s: %w", t.Name, err)
		}
		r := session.Resource{Name: session.ResourceName(t.Name), Kind: kind, Description: t.Description,
			Fields: parseFields(t.Fields), Request: parseFields(t.Request), Reply: parseFields(t.Reply)}
		if err := r.Validate(); err != nil {
			return nil, err
		}
		if seen[r.Name] {
			return nil, fmt.Errorf("resource %s stands twice", r.Name)
		}
		seen[r.Name] = true
		list = append(list, r)
	}
	return list, nil
}

func parseFields(list []fieldText) []session.Field {
	var fields []session.Field
	for _, f := range list {
		fields = append(fields, session.Field(f))
	}
	return fields
}

// describe is the inverse of parseResources for one resource. Of equal resources it is equal, whether an empty list is
// nil or not.
func describe(r session.Resource) resourceText {
	return resourceText{Name: string(r.Name), Type: r.Kind.String(), Description: r.Description,
		Fields: describeFields(r.Fields), Request: describeFields(r.Request), Reply: describeFields(r.Reply)}
}

func describeFields(list []session.Field) []fieldText {
	var texts []fieldText
	for _, f := range list {
		t := fieldText(f)
		if len(t.ValidValues) == 0 {
			t.ValidValues = nil
		}
		texts = append(texts, t)
	}
	return texts
}
