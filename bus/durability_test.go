package bus_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rollbook/bus"
)

// TestDurabilityOfAnotherServer asks servers that are not ours, whose operator
// has exported the question to the account.
func TestDurabilityOfAnotherServer(t *testing.T) {
	for name, c := range map[string]struct {
		exported, always bool
		want             error
	}{
		"syncs always":           {true, true, nil},
		"syncs every 2 minutes":  {true, false, bus.ErrNotDurable},
		"always, but not to ask": {false, true, bus.ErrDurabilityUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			imports := ""
			if c.exported {
				imports = `imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}]`
			}
			opts := &server.Options{}
			ok(t, opts.ProcessConfigString(`
				system_account: SYS
				no_auth_user: app
				accounts {
				  SYS { exports: [{service: "$SYS.REQ.SERVER.PING.JSZ", response: stream}] }
				  APP { jetstream: enabled, users: [{user: app, password: app}], `+imports+` }
				}`))
			opts.ServerName, opts.Host, opts.Port = "theirs", "127.0.0.1", server.RANDOM_PORT
			opts.JetStream, opts.StoreDir, opts.SyncAlways, opts.NoSigs = true, t.TempDir(), c.always, true
			srv, err := server.NewServer(opts)
			ok(t, err)
			srv.Start()
			defer func() {
				srv.Shutdown()
				srv.WaitForShutdown()
			}()
			if !srv.ReadyForConnections(30 * time.Second) {
				t.Fatal("the server is not ready")
			}
			b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: srv.ClientURL()})
			ok(t, err)
			defer b.Close()
			want(t, b.CheckDurability(t.Context()), bus.ErrDurabilityUnknown) // there is no book yet
			ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
			err = b.CheckDurability(t.Context())
			if c.want == nil {
				ok(t, err)
			} else {
				want(t, err, c.want)
			}
		})
	}
}
