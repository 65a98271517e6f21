package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rollbook/adapters"
	"rollbook/adapters/advauth"
	"rollbook/adapters/genesis"
	"rollbook/adapters/nebula"
	"rollbook/adapters/traderevolution"
	"rollbook/adapters/zenith"
	"rollbook/engine/session"
)

// Where the other venues' listeners are above the port base.
const (
	portTE      = 5
	portAdvAuth = 6
	portZenith  = 7
	portNebula  = 8
)

// door is a venue's listener and what answers there.
type door struct {
	venue   session.Venue
	title   string // as people write it
	above   uint16 // its port's distance from the port base
	at      net.Listener
	handler interface { // nil before [house.furnishVenues]
		http.Handler
		Metrics() *adapters.Replies
	}
	route   func(path string) string        // the class of a path: one of a few, for the metrics
	sockets func(ctx context.Context) error // closes the sockets; nil: there are none
}

// doors are those of the venues that are served, in the order of their ports, closed so far.
func (s *serveSettings) doors() ([]*door, error) {
	served, err := s.served()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc([]*door{
		{venue: session.Genesis, title: "Genesis", above: portGenesis, route: genesis.Class},
		{venue: session.TraderEvolution, title: "TraderEvolution", above: portTE, route: s.teRoute},
		{venue: session.AdvAuth, title: "advAuth", above: portAdvAuth, route: advAuthRoute},
		{venue: session.Zenith, title: "Zenith", above: portZenith, route: zenithRoute},
		{venue: session.Nebula, title: "Nebula", above: portNebula, route: nebulaRoute},
	}, func(d *door) bool { return !slices.Contains(served, d.venue) }), nil
}

// openDoors takes the ports. Nobody is let in yet.
func (h *house) openDoors() (err error) {
	if h.certificate, err = openCertificate(h.set.TLS, h.log); err != nil {
		return err
	}
	if h.proxies, err = h.set.proxies(); err != nil {
		return err
	}
	doors, err := h.set.doors()
	if err != nil {
		return err
	}
	for _, d := range doors {
		if d.at, err = listen(d.title, h.set.address(d.above), "--port-base"); err != nil {
			return err
		}
		h.doors = append(h.doors, d)
	}
	return nil
}

// furnishVenues makes what answers behind the doors; it starts nothing.
func (h *house) furnishVenues(ctx context.Context, key [32]byte) error {
	for _, d := range h.doors {
		switch d.venue {
		case session.Genesis:
			handler := genesis.New(h.set.genesisConfig(), h.gate, h.log)
			d.handler, d.sockets = handler, handler.Shutdown
		case session.TraderEvolution:
			d.handler = traderevolution.New(h.set.teConfig(), h.gate, h.log)
		case session.AdvAuth:
			d.handler = advauth.New(h.set.advAuthConfig(key), h.gate, h.log)
		case session.Zenith:
			issuers, err := h.set.zenithIssuers()
			if err != nil {
				return refuse("usage", "zenith: %w", err)
			}
			config := h.set.zenithConfig()
			config.Directory, config.Providers = nil, map[string]zenith.Provider{}
			for name, issuer := range issuers {
				config.Providers[name] = zenith.NewOIDC(issuer, h.gate)
			}
			handler := zenith.New(config, h.gate, h.log)
			d.handler, d.sockets = handler, handler.Shutdown
		case session.Nebula:
			config, err := h.set.nebulaConfig()
			if err != nil {
				return refuse("usage", "nebula: %w", err)
			}
			keys, err := h.bus.Keys(ctx)
			if err != nil {
				return err
			}
			h.board = newSigningBoard(keys)
			h.nebula = nebula.New(config, h.gate, h.board, h.log)
			d.handler, d.sockets = h.nebula, h.nebula.Shutdown
		}
	}
	return nil
}

// doorURL is where the venue's clients call; scheme is http or ws.
func (h *house) doorURL(d *door, scheme string) string {
	return h.set.TLS.scheme(scheme) + "://" + d.at.Addr().String()
}

// venueServers are the HTTP servers behind the doors.
func (h *house) venueServers() []*web {
	var servers []*web
	room := newRoom(openFiles(), h.log)
	for _, d := range h.doors {
		name := d.venue.String()
		w := newWeb(name, h.certificate.wrap(room.wrap(d.at)), h.proxies.Handler(h.traffic.count(name, d.route, h.tracing.requests(name, d.route, d.handler))), h.log)
		w.drain, w.sockets = h.set.Drain, d.sockets
		if h.embedded == nil { // there may be another pod to go to
			w.farewell = h.set.Farewell
		}
		servers = append(servers, w)
	}
	return servers
}

// serveTogether runs servers until ctx ends or one fails; they stop at the same time, so that one venue's slow requests
// take nothing from the others' patience.
func serveTogether(servers []*web) func(context.Context) error {
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, w := range servers {
			g.Go(func() error { return w.Run(ctx) })
		}
		return g.Wait()
	}
}

// signingBoard notices when this pod can sign tokens: its key has been published, and it has gone on to read the board.
type signingBoard struct {
	nebula.KeyBoard
	published atomic.Bool
	signing   chan struct{}
	closed    atomic.Bool
}

func newSigningBoard(board nebula.KeyBoard) *signingBoard {
	return &signingBoard{KeyBoard: board, signing: make(chan struct{})}
}

// Publish implements [nebula.KeyBoard].
func (b *signingBoard) Publish(ctx context.Context, kid string, jwk []byte) error {
	err := b.KeyBoard.Publish(ctx, kid, jwk)
	if err == nil {
		b.published.Store(true)
	}
	return err
}

// All implements [nebula.KeyBoard].
func (b *signingBoard) All(ctx context.Context) (map[string][]byte, error) {
	if b.published.Load() && b.closed.CompareAndSwap(false, true) {
		close(b.signing)
	}
	return b.KeyBoard.All(ctx)
}

// signingPatience is how long the other venues wait for Nebula's first key.
const signingPatience = 5 * time.Second

// awaitSigning returns when Nebula can issue tokens, or when it takes too long: then its logins are answered
// "unavailable" until it can, and the other venues are served.
func (h *house) awaitSigning(ctx context.Context) error {
	if h.board == nil {
		return nil
	}
	select {
	case <-h.board.signing:
	case <-time.After(signingPatience):
		h.log.Warn("Nebula cannot issue tokens yet: its signing key is not published")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// The classes of paths. They are for the metrics alone, which is why a wrong guess does no harm.

func (s *serveSettings) teRoute(path string) string {
	path, _ = strings.CutPrefix("/"+segments(path, false), s.TE.BasePath)
	switch strings.Trim(path, "/") {
	case "auth/token":
		return "login"
	case "auth/token/refresh":
		return "refresh"
	case "auth/pfixtoken/verify", "external/token/verify":
		return "verify"
	case "external/token":
		return "issue"
	case "connectors/settings":
		return "settings"
	case "methods/errors":
		return "errors"
	}
	return "other"
}

func advAuthRoute(path string) string {
	path = segments(path, true)
	for _, prefix := range advauth.DefaultConfig().Prefixes {
		if rest, under := strings.CutPrefix(path, prefix+"/"); under {
			path = rest
			break
		}
	}
	switch path {
	case "login":
		return "login"
	case "login/advauthinit":
		return "challenge"
	case "login/advauth":
		return "answer"
	case "login/whoami":
		return "whoami"
	}
	return "other"
}

func zenithRoute(path string) string {
	if segments(path, true) == "zenith" {
		return "socket"
	}
	return "other"
}

func nebulaRoute(path string) string {
	path = segments(path, false)
	switch {
	case path == "trader-api/auth/token":
		return "login"
	case path == ".well-known/jwks.json":
		return "keys"
	case strings.HasPrefix(path+"/", "trader-api/"):
		return "rest"
	case path == "":
		return "socket"
	}
	return "other"
}

// segments is a path without slashes at its ends and doubled ones.
func segments(path string, lower bool) string {
	if lower {
		path = strings.ToLower(path)
	}
	return strings.Join(strings.FieldsFunc(path, func(c rune) bool { return c == '/' }), "/")
}
