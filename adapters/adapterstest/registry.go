package adapterstest

import (
	"context"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

// cheap is the least that argon2id can cost.
var cheap = directory.Parameters{Memory: 8, Time: 1, Threads: 1}

// Registry is the real directory on the house's bus: names are claimed, passwords hashed, API keys sealed, and each
// registry watches the bucket for itself.
type Registry struct {
	*directory.Directory
	house *House
	store *directory.Store
}

// Registry opens the directory, and returns when it has been read once.
func (h *House) Registry() *Registry {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	bucket, err := h.Bus.Directory(ctx)
	Must(h.t, err)
	store, err := directory.NewStore(bucket, directory.StoreConfig{Parameters: cheap, DeploymentKey: deployment})
	Must(h.t, err)
	r := &Registry{directory.New(bucket, directory.Config{DeploymentKey: deployment, Parameters: cheap}, Discard), h, store}
	Runs(h.t, r.Run)
	Must(h.t, r.Await(ctx))
	return r
}

// Enrol makes a person known to the directory and to the book, in the order of the operator's command. The user id is the
// registry's own choice, and the password has to be one that its policy takes; an API key is for the venues that are named.
func (r *Registry) Enrol(p Person) session.UserID {
	t := r.house.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	record := directory.Record{Names: p.Names, Venues: p.Venues, Scopes: p.Scopes}
	var err error
	if p.Password != "" {
		record.Verifier, err = r.store.Hash(p.Password, p.Names)
		Must(t, err)
	}
	record.User, err = r.store.Claim(ctx, p.Names)
	Must(t, err)
	r.house.Command(&session.Register{User: record.User, Credential: 1})
	_, err = r.store.Create(ctx, record)
	Must(t, err)
	if len(p.Key) > 0 {
		for _, venue := range p.Venues {
			credential, err := r.store.SetKey(ctx, record.User, venue, p.Key)
			Must(t, err)
			r.house.Command(&session.ChangeCredential{User: record.User, Credential: credential})
		}
	}
	Must(t, r.Current(ctx))
	return record.User
}
