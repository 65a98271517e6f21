package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollbook/engine/session"
)

// parsed reads a command line of serve.
func parsed(t *testing.T, args ...string) *serveSettings {
	t.Helper()
	var c cli
	if _, err := parserOf(t, &c).Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatal(err)
	}
	return &c.Serve.serveSettings
}

// TestPoliciesAreSettings: each setting changes the one limit that it names, at the one venue.
func TestPoliciesAreSettings(t *testing.T) {
	type change = func(p *session.Policy)
	seen := map[string]bool{}
	for venue, settings := range map[session.Venue]map[string]change{
		session.Genesis: {
			"--genesis-absolute=7h": func(p *session.Policy) { p.Absolute = 7 * time.Hour }, "--genesis-idle=6h": func(p *session.Policy) { p.Idle = 6 * time.Hour },
			"--genesis-access-idle=5m": func(p *session.Policy) { p.AccessIdle = 5 * time.Minute }, "--genesis-max-sessions=7": func(p *session.Policy) { p.MaxSessions = 7 },
			"--genesis-evict-oldest": func(p *session.Policy) { p.EvictOldest = true }, "--genesis-rotate": func(p *session.Policy) { p.Rotate = true },
			"--genesis-grace=4s": func(p *session.Policy) { p.Grace = 4 * time.Second },
		},
		session.TraderEvolution: {
			"--te-absolute=7h": func(p *session.Policy) { p.Absolute = 7 * time.Hour }, "--te-idle=6h": func(p *session.Policy) { p.Idle = 6 * time.Hour },
			"--te-access-lifetime=4m": func(p *session.Policy) { p.AccessLifetime = 4 * time.Minute }, "--te-refresh-lifetime=2h": func(p *session.Policy) { p.RefreshLifetime = 2 * time.Hour },
			"--te-grace=4s": func(p *session.Policy) { p.Grace = 4 * time.Second }, "--te-max-sessions=7": func(p *session.Policy) { p.MaxSessions = 7 },
			"--te-evict-oldest": func(p *session.Policy) { p.EvictOldest = true }, "--te-one-time-lifetime=9s": func(p *session.Policy) { p.OneTimeLifetime = 9 * time.Second },
			"--te-one-time-tokens=9": func(p *session.Policy) { p.OneTimeTokens = 9 },
		},
		session.AdvAuth: {
			"--advauth-absolute=7h": func(p *session.Policy) { p.Absolute = 7 * time.Hour }, "--advauth-max-sessions=7": func(p *session.Policy) { p.MaxSessions = 7 },
			"--advauth-evict-oldest": func(p *session.Policy) { p.EvictOldest = true },
		},
		session.Zenith: {
			"--zenith-absolute=7h": func(p *session.Policy) { p.Absolute = 7 * time.Hour }, "--zenith-idle=6h": func(p *session.Policy) { p.Idle = 6 * time.Hour },
			"--zenith-access-lifetime=4m": func(p *session.Policy) { p.AccessLifetime = 4 * time.Minute }, "--zenith-max-sessions=7": func(p *session.Policy) { p.MaxSessions = 7 },
			"--zenith-evict-oldest": func(p *session.Policy) { p.EvictOldest = true },
		},
		session.Nebula: {
			"--nebula-absolute=7h": func(p *session.Policy) { p.Absolute = 7 * time.Hour }, "--nebula-max-sessions=7": func(p *session.Policy) { p.MaxSessions = 7 },
			"--nebula-evict-oldest": func(p *session.Policy) { p.EvictOldest = true },
		},
	} {
		for arg, change := range settings {
			s, want := parsed(t, arg), session.DefaultPolicies()
			p := want.Venues[venue]
			change(&p)
			want.Venues[venue] = p
			if err := s.check(everything); err != nil {
				t.Errorf("%s: %v", arg, err)
			}
			if diff := cmp.Diff(want, s.policies()); diff != "" {
				t.Errorf("%s changes something else:\n%s", arg, diff)
			}
			flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			seen[flag] = true
		}
	}
	total := 0
	for _, policy := range []any{genesisPolicy{}, tePolicy{}, advAuthPolicy{}, zenithPolicy{}, nebulaPolicy{}} {
		total += reflect.TypeOf(policy).NumField()
	}
	if len(seen) != total {
		t.Errorf("%d of %d settings were tried", len(seen), total)
	}
}

// TestPoliciesAreHeldToSense: limits that nobody can mean are refused, by the name of the setting or of the policy.
func TestPoliciesAreHeldToSense(t *testing.T) {
	for args, word := range map[string]string{
		"--te-absolute=0":                               "policy of traderevolution: absolute",
		"--advauth-absolute=0":                          "policy of advauth: absolute",
		"--zenith-absolute=0":                           "policy of zenith: absolute",
		"--nebula-absolute=0":                           "policy of nebula: absolute",
		"--te-idle=999ms":                               "--te-idle 999ms is less than a second",
		"--te-access-lifetime=1ms":                      "--te-access-lifetime 1ms is less than a second",
		"--te-refresh-lifetime=0":                       "must be set",
		"--te-access-lifetime=0":                        "must be set",
		"--te-access-lifetime=1h":                       "must be less than --te-refresh-lifetime 1h0m0s",
		"--te-one-time-lifetime=5ms":                    "--te-one-time-lifetime 5ms is less than a second",
		"--te-one-time-lifetime=25h":                    "one_time_lifetime",
		"--te-one-time-lifetime=0":                      "one_time_lifetime",
		"--te-one-time-tokens=501":                      "one_time_tokens",
		"--te-one-time-tokens=-1":                       "one_time_tokens",
		"--te-grace=61s":                                "grace is longer than a minute",
		"--genesis-rotate --genesis-grace=2m":           "grace is longer than a minute",
		"--te-max-sessions=501":                         "policy of traderevolution: max_sessions",
		"--advauth-max-sessions=-1":                     "policy of advauth: max_sessions",
		"--zenith-max-sessions=501":                     "policy of zenith: max_sessions",
		"--nebula-max-sessions=501":                     "policy of nebula: max_sessions",
		"--zenith-idle=-1s":                             "idle is negative",
		"--zenith-access-lifetime=1us":                  "--zenith-access-lifetime",
		"--advauth-absolute=1ns":                        "--advauth-absolute 1ns is less than a second",
		"--nebula-absolute=45h":                         "--nebula-absolute 45h0m0s is longer than 44h0m0s",
		"--te-max-sessions=501 --venues=genesis,nebula": "max_sessions", // also of a venue that is not served
		"--lockout-forget=25h":                          "lockout",
		"--lockout-hard=4":                              "--lockout-hard 4",
		"--lockout-hard=101":                            "--lockout-hard 101",
	} {
		err := parsed(t, strings.Fields(args)...).check(everything)
		var no *refused
		if !errors.As(err, &no) || no.code != "usage" || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
