package session

import (
	"fmt"
	"strings"
)

// ResourceName names a resource: compared exactly, 1 to 128 characters of A-Z a-z 0-9 _ - .
type ResourceName string

// ResourceKind says what a resource is.
type ResourceKind uint8

// The kinds. The numbers are stored in the book and never change meaning.
const (
	EventHandler  ResourceKind = 1 // takes transactions: Fields
	RequestServer ResourceKind = 2 // answers requests: Request and Reply
	DataServer    ResourceKind = 3 // streams rows: Fields
)

var kindNames = [...]string{"", "EVENT_HANDLER", "REQUEST_SERVER", "DATASERVER"}

// String is the kind's name in the Genesis metadata protocol.
func (k ResourceKind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// ParseResourceKind reads a kind's name; REQUESTSERVER is the older spelling of REQUEST_SERVER.
func ParseResourceKind(name string) (ResourceKind, error) {
	if name == "REQUESTSERVER" {
		return RequestServer, nil
	}
	for k, n := range kindNames {
		if n == name && k != 0 {
			return ResourceKind(k), nil
		}
	}
	return 0, fmt.Errorf("%q is no kind of resource (EVENT_HANDLER, REQUEST_SERVER or DATASERVER)", name)
}

// Resource is something an authenticated client can ask for, and its metadata.
type Resource struct {
	Name        ResourceName // what clients ask for
	Kind        ResourceKind // what they get
	Description string       // for people
	Fields      []Field      // of a data server or an event handler
	Request     []Field      // of a request server
	Reply       []Field      // of a request server
}

// Field describes one field of a resource.
type Field struct {
	Name        string
	Type        string // STRING, INT, LONG, DOUBLE, BIGDECIMAL, BOOLEAN, ENUM, DATE, DATETIME, NANO_TIMESTAMP, ...
	Description string
	Label       string
	ValidValues []string // of an ENUM
	Optional    bool
	Nullable    bool
	ReadOnly    bool
}

// MaxFields bounds each field list, so that a definition always fits one page.
const MaxFields = 500

// Validate says in one sentence what is wrong with the definition; nil when nothing is.
func (r *Resource) Validate() error {
	if !r.Name.valid() {
		return fmt.Errorf("resource name %q: use 1 to 128 characters of A-Z a-z 0-9 . _ -", r.Name)
	}
	if r.Kind < EventHandler || r.Kind > DataServer {
		return fmt.Errorf("resource %s has no kind", r.Name)
	}
	if r.Kind == RequestServer && len(r.Fields) > 0 {
		return fmt.Errorf("resource %s: a request server has request and reply fields", r.Name)
	}
	if r.Kind != RequestServer && len(r.Request)+len(r.Reply) > 0 {
		return fmt.Errorf("resource %s: only a request server has request and reply fields", r.Name)
	}
	for _, list := range [][]Field{r.Fields, r.Request, r.Reply} {
		seen := make(map[string]bool, len(list))
		for _, f := range list {
			if f.Name == "" || f.Type == "" || seen[f.Name] {
				return fmt.Errorf("resource %s: field %q has no name, no type, or stands twice", r.Name, f.Name)
			}
			seen[f.Name] = true
		}
		if len(list) > MaxFields {
			return fmt.Errorf("resource %s: more than %d fields", r.Name, MaxFields)
		}
	}
	if len(write(nil, nil, r.fields)) > 128<<10 {
		return fmt.Errorf("resource %s: the definition is larger than 128 KiB", r.Name)
	}
	return nil
}

func (n ResourceName) valid() bool {
	return len(n) > 0 && len(n) <= 128 && strings.Trim(string(n),
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == ""
}

func (r *Resource) fields(c *coder) {
	text(c, &r.Name)
	code(c, &r.Kind)
	text(c, &r.Description)
	list(c, &r.Fields, (*Field).fields)
	list(c, &r.Request, (*Field).fields)
	list(c, &r.Reply, (*Field).fields)
}

func (f *Field) fields(c *coder) {
	text(c, &f.Name)
	text(c, &f.Type)
	text(c, &f.Description)
	text(c, &f.Label)
	texts(c, &f.ValidValues)
	c.bool(&f.Optional)
	c.bool(&f.Nullable)
	c.bool(&f.ReadOnly)
}
