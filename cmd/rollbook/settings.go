package main

import (
	"cmp"
	"net"
	"strconv"
	"time"

	"rollbook/adapters/genesis"
	"rollbook/bus"
)

// serveSettings are what `serve`, `engine` and `adapters` can be told, so that one file serves them all.
// Each says its default, its unit and what zero means.
type serveSettings struct {
	place          `embed:""`
	keyFile        `embed:""`
	notarySettings `embed:""`

	Host      string `help:"The address that the listeners bind to, but for the bus (--bus-listen): a name or an IP address. Let other machines in only with TLS: --tls-cert, or a proxy that has it." default:"127.0.0.1" env:"ROLLBOOK_HOST"`
	PortBase  uint16 `help:"The TCP port of operations; Genesis is 4 above it, TraderEvolution 5, advAuth 6, Zenith 7, Nebula 8. 0: each listener takes a free port." default:"9060" placeholder:"N" env:"ROLLBOOK_PORT_BASE"`
	BusListen string `help:"Where the embedded bus listens for operator's commands and downstream readers, host:port; port 0 takes a free one. Empty: nowhere, and then operator's commands work only while the service does not run." default:"127.0.0.1:0" placeholder:"HOST:PORT" env:"ROLLBOOK_BUS_LISTEN"`

	layoutSettings `embed:""`
	feedSettings   `embed:"" prefix:"feed-"`

	AcceptLossWindow bool `help:"With --bus: write also when the servers acknowledge before the disk does, and so may forget sessions they promised. Default: no." env:"ROLLBOOK_ACCEPT_LOSS_WINDOW"`

	PasswordChecks int           `help:"How many passwords are hashed at the same time; each takes 19 MiB and a core. 0: the number of CPUs." default:"0" placeholder:"N" env:"ROLLBOOK_PASSWORD_CHECKS"`
	PasswordQueue  int           `help:"How many logins may wait for their hash; more are told to come back. 0: 64 for each check." default:"0" placeholder:"N" env:"ROLLBOOK_PASSWORD_QUEUE"`
	Staleness      time.Duration `help:"How long this process may be out of touch with the book before it stops saying yes. 0: 2s." default:"2s" placeholder:"TIME" env:"ROLLBOOK_STALENESS"`
	SnapshotEvents int           `help:"After how many events a snapshot of the folded state is written, or after as many as there are live sessions, if that is more. 0: 100000." default:"100000" placeholder:"N" env:"ROLLBOOK_SNAPSHOT_EVENTS"`
	SnapshotPause  time.Duration `help:"The least time from one snapshot to the next. 0: 1m." default:"1m" placeholder:"TIME" env:"ROLLBOOK_SNAPSHOT_PAUSE"`
	PodLease       time.Duration `help:"How long nothing may be heard of a process with venues before its clients' sessions end, those that end with their sockets. Make it longer than the venues' linger: clients need as long to come back. 0: 2m30s." default:"2m30s" placeholder:"TIME" env:"ROLLBOOK_POD_LEASE"`
	Webhooks       string        `help:"The file with the endpoints that events are posted to: docs/webhooks.md. Empty: none." default:"" placeholder:"FILE" type:"path" env:"ROLLBOOK_WEBHOOKS"`
	Farewell       time.Duration `help:"How long a process of several goes on serving when it stops: it is not ready any more, and has each client close its connection with the next answer. It ends sooner when nobody keeps one. Not with an embedded bus: nobody else could answer. 0: not at all." default:"2s" placeholder:"TIME" env:"ROLLBOOK_FAREWELL"`
	Drain          time.Duration `help:"How long requests in progress may take when the service stops. 0: they are cut off." default:"10s" placeholder:"TIME" env:"ROLLBOOK_DRAIN"`

	Lockout lockoutSettings `embed:"" prefix:"lockout-"`
	Genesis genesisSettings `embed:"" prefix:"genesis-"`

	Trace traceSettings `embed:"" prefix:"trace-"`

	BusListenTLS busListenTLS `embed:"" prefix:"bus-listen-"`

	venueSettings `embed:""`
}

// layoutSettings are the shape of the stored book: what it shall be when it is created, what it must be at every start.
type layoutSettings struct {
	Partitions int `help:"How many partitions a new book gets, 1 to 64; fixed from then on, and checked at every start. 0: as stored, and 1 for a new book in a data directory." default:"0" placeholder:"N" env:"ROLLBOOK_PARTITIONS"`
	Replicas   int `help:"How many servers of the bus keep each stream of a new book, 1 to 5; 3 in a cluster. Checked at every start. 0: as stored." default:"0" placeholder:"N" env:"ROLLBOOK_REPLICAS"`
}

// podLease is the lease that pods have.
func (s *serveSettings) podLease() time.Duration { return cmp.Or(s.PodLease, 150*time.Second) }

// check refuses what no book can be.
func (l layoutSettings) check() error {
	switch {
	case l.Partitions < 0 || l.Partitions > bus.MaxPartitions:
		return refuse("usage", "--partitions %d: use 1 to %d", l.Partitions, bus.MaxPartitions)
	case l.Replicas < 0 || l.Replicas > 5:
		return refuse("usage", "--replicas %d: use 1 to 5", l.Replicas)
	}
	return nil
}

// agrees refuses a stored layout that is not the one that was named; zero names nothing.
func (l layoutSettings) agrees(stored bus.Layout) error {
	if l.Partitions != 0 && l.Partitions != stored.Partitions {
		return refuse("partitions", "the book has %d partitions and --partitions says %d: the count is fixed when a book is created",
			stored.Partitions, l.Partitions)
	}
	if l.Replicas != 0 && l.Replicas != stored.Replicas {
		return refuse("replicas", "the book is kept by %d servers and --replicas says %d: find out which is right", stored.Replicas, l.Replicas)
	}
	return nil
}

// genesisSettings are the Genesis listener's: [genesis.Config], and its policy.
type genesisSettings struct {
	StrictStatus   bool          `help:"Give refusals the HTTP status that their STATUS_CODE names; browser clients then lose the error code. Default: no, refusals come as 200." env:"ROLLBOOK_GENESIS_STRICT_STATUS"`
	Cookies        bool          `help:"Put tokens into HttpOnly cookies and blank them in bodies. Default: no." env:"ROLLBOOK_GENESIS_COOKIES"`
	CookieInsecure bool          `help:"Let the cookies travel without TLS, for trials on one machine. Default: no." env:"ROLLBOOK_GENESIS_COOKIE_INSECURE"`
	AllowedOrigins []string      `help:"The pages on other origins that may call, such as https://app.example.com; the word loopback stands for all pages of this machine. Behind a proxy on this machine, name the origin that browsers see too. Empty: none." default:"loopback" placeholder:"ORIGIN" env:"ROLLBOOK_GENESIS_ALLOWED_ORIGINS"`
	HeartbeatSecs  int           `help:"The heartbeat interval that clients are told, in seconds. 0: 30." default:"30" placeholder:"N" env:"ROLLBOOK_GENESIS_HEARTBEAT_SECS"`
	Linger         time.Duration `help:"How long a session outlives the socket it was opened on, so that its client can come back. 0: it ends with the socket. Negative: for ever." default:"2m" placeholder:"TIME" env:"ROLLBOOK_GENESIS_LINGER"`
	MaxBody        int64         `help:"The largest request body or socket message, in bytes. 0: 262144." default:"262144" placeholder:"N" env:"ROLLBOOK_GENESIS_MAX_BODY"`
	MessageRate    int           `help:"How many messages a second one socket may send. 0: 50." default:"50" placeholder:"N" env:"ROLLBOOK_GENESIS_MESSAGE_RATE"`
	MaxSockets     int           `help:"How many sockets may be open. 0: 20000." default:"20000" placeholder:"N" env:"ROLLBOOK_GENESIS_MAX_SOCKETS"`

	genesisPolicy `embed:""`
}

// Where the listeners are above the port base; venues.go has the other venues'.
const (
	portOperations = 0
	portGenesis    = 4
	portLast       = 8
)

// check refuses what cannot be meant, for a process with these roles.
func (s *serveSettings) check(r roles) error {
	if err := s.place.check(); err != nil {
		return err
	}
	if err := s.layoutSettings.check(); err != nil {
		return err
	}
	switch {
	case s.Bus == "" && r != everything:
		return refuse("usage", "--bus is missing: with an embedded bus, everything runs in one process, rollbook serve")
	case s.Bus == "" && s.Replicas > 1:
		return refuse("usage", "--replicas %d: an embedded bus is one server", s.Replicas)
	case s.Host == "":
		return refuse("usage", "--host is empty: name an address, 0.0.0.0 for all of this machine")
	case s.PortBase > 65535-portLast:
		return refuse("usage", "--port-base %d leaves no room for the %d ports above it", s.PortBase, portLast)
	case s.PodLease < 0 || s.PodLease > 0 && s.PodLease < 10*time.Second:
		return refuse("usage", "--pod-lease %s: a process that lives says so every 2s, and some of that may be lost: use 10s or more", s.PodLease)
	case s.PasswordChecks < 0 || s.PasswordQueue < 0 || s.Staleness < 0 || s.Farewell < 0 || s.Drain < 0:
		return refuse("usage", "--password-checks, --password-queue, --staleness, --farewell and --drain cannot be negative")
	case s.SnapshotEvents < 0 || s.SnapshotPause < 0:
		return refuse("usage", "--snapshot-events and --snapshot-pause cannot be negative")
	case s.NotaryKeyFile == "" && r.notary:
		return refuse("usage", "--notary-key-file is missing: rollbook audit key makes one")
	case s.Bus != "" && s.DeploymentKeyFile == "" && r.venues:
		return refuse("usage", "--bus needs --deployment-key-file: all pods share one key")
	}
	if err := s.feedSettings.check(); err != nil {
		return err
	}
	if err := s.BusListenTLS.check(); err != nil {
		return err
	}
	if err := s.Trace.check(); err != nil {
		return err
	}
	if err := s.checkPolicies(); err != nil {
		return err
	}
	if !r.venues {
		return nil
	}
	if err := s.genesisConfig().Validate(); err != nil {
		return refuse("usage", "genesis: %w", err)
	}
	return s.venueSettings.check()
}

// address is where a listener binds, by its distance from the port base.
func (s *serveSettings) address(above uint16) string {
	port := s.PortBase
	if port != 0 {
		port += above
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(int(port)))
}

// busLeaves reports whether other machines can reach the embedded bus in the clear.
func (s *serveSettings) busLeaves() bool {
	host, _, err := net.SplitHostPort(s.BusListen)
	return s.Bus == "" && s.BusListenTLS.Cert == "" && err == nil && !loopback(host)
}

// loopback reports whether nobody but this machine can reach the host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *serveSettings) genesisConfig() genesis.Config {
	g := s.Genesis
	origins := g.AllowedOrigins
	if origins == nil {
		origins = []string{}
	}
	return genesis.Config{
		StrictStatus: g.StrictStatus, Cookies: g.Cookies, Cookie: genesis.CookieConfig{Insecure: g.CookieInsecure},
		AllowedOrigins: origins, HeartbeatSecs: g.HeartbeatSecs, Linger: g.Linger, MaxBody: g.MaxBody,
		MessageRate: g.MessageRate, MaxSockets: g.MaxSockets, Product: []genesis.Product{{Name: "rollbook", Version: thisBuild().Version}},
	}
}
