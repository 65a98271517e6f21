package resources

import (
	"fmt"
	"strings"
	"testing"

	"rollbook/engine/session"
	"rollbook/projections"
)

func defined(name, description string) session.Event {
	return &session.ResourceDefined{Resource: session.Resource{Name: session.ResourceName(name), Kind: session.DataServer, Description: description}}
}

func removed(name string) session.Event {
	return &session.ResourceRemoved{Name: session.ResourceName(name)}
}

// shown is the list as "name description" in its order.
func shown(x *Index) string {
	var list []string
	for _, r := range x.All() {
		list = append(list, fmt.Sprintf("%s %s", r.Name, r.Description))
	}
	return strings.Join(list, ", ")
}

func TestIndex(t *testing.T) {
	x := New()
	if x.Name() != "resources" || len(x.All()) != 0 {
		t.Errorf("%s begins with %s", x.Name(), shown(x))
	}
	for i, step := range []struct {
		events []session.Event
		want   string
	}{
		{[]session.Event{defined("TRADES", "1"), defined("ORDERS", "1"), defined("BONDS", "1")}, "TRADES 1, ORDERS 1, BONDS 1"},
		{[]session.Event{defined("ORDERS", "2"), &session.UserRegistered{Header: session.Header{User: "u"}, Credential: 1}}, "TRADES 1, ORDERS 2, BONDS 1"},
		{[]session.Event{removed("TRADES")}, "ORDERS 2, BONDS 1"},
		{[]session.Event{removed("NEVER_THERE")}, "ORDERS 2, BONDS 1"},
		{[]session.Event{defined("TRADES", "3")}, "ORDERS 2, BONDS 1, TRADES 3"}, // defined anew: it comes last
		{[]session.Event{defined("A", "1"), removed("A"), removed("BONDS")}, "ORDERS 2, TRADES 3"},
		{nil, "ORDERS 2, TRADES 3"},
	} {
		before := x.All()
		kept := fmt.Sprint(before)
		if err := x.Apply(projections.Page{Seq: uint64(i + 1), Events: step.events}); err != nil {
			t.Fatal(err)
		}
		if got := shown(x); got != step.want {
			t.Errorf("after page %d: %s, not %s", i+1, got, step.want)
		}
		if fmt.Sprint(before) != kept {
			t.Errorf("page %d changed a list that a reader has", i+1)
		}
	}
	if r, ok := x.Named("ORDERS"); !ok || r.Description != "2" {
		t.Errorf("ORDERS is %+v, %v", r, ok)
	}
	for _, name := range []session.ResourceName{"BONDS", "A", "NEVER_THERE", "orders", ""} {
		if r, ok := x.Named(name); ok {
			t.Errorf("%q is known: %+v", name, r)
		}
	}
}
