// Package resources says which resources exist, and their metadata.
//
// It folds ResourceDefined and ResourceRemoved events; everything else passes by. Readers get copies of the list, in
// the order in which the resources were first defined, and never wait for the book.
package resources

import (
	"slices"
	"sync"

	"rollbook/engine/session"
	"rollbook/projections"
)

// Index is the resources as of the page applied last. Its methods are safe for concurrent use.
type Index struct {
	mu    sync.RWMutex
	named map[session.ResourceName]session.Resource // guarded by mu
	order []session.ResourceName                    // guarded by mu: as first defined
}

// New is the index before the first page.
func New() *Index { return &Index{named: make(map[session.ResourceName]session.Resource)} }

// Name implements [projections.Model].
func (*Index) Name() string { return "resources" }

// Apply implements [projections.Model].
func (x *Index) Apply(page projections.Page) error {
	for _, event := range page.Events {
		switch e := event.(type) {
		case *session.ResourceDefined:
			x.mu.Lock()
			if _, known := x.named[e.Resource.Name]; !known {
				x.order = append(x.order, e.Resource.Name)
			}
			x.named[e.Resource.Name] = e.Resource
			x.mu.Unlock()
		case *session.ResourceRemoved:
			x.mu.Lock()
			delete(x.named, e.Name)
			x.order = slices.DeleteFunc(x.order, func(n session.ResourceName) bool { return n == e.Name })
			x.mu.Unlock()
		}
	}
	return nil
}

// Restore implements [projections.Restorer]: the state has the resources in the order that this index keeps.
func (x *Index) Restore(_ projections.Page, state *session.State) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	state.EachResource(func(r session.Resource) {
		if _, known := x.named[r.Name]; !known {
			x.order = append(x.order, r.Name)
		}
		x.named[r.Name] = r
	})
	return nil
}

// All lists the resources in the order in which they were first defined. The slices inside are shared: read only.
func (x *Index) All() []session.Resource {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make([]session.Resource, len(x.order))
	for i, name := range x.order {
		all[i] = x.named[name]
	}
	return all
}

// Named is the resource of that name.
func (x *Index) Named(name session.ResourceName) (session.Resource, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r, ok := x.named[name]
	return r, ok
}

var _ projections.Restorer = (*Index)(nil)
