package zenith

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// authCode logs in with a grant that a provider understands.
func authCode(ctx context.Context, s *socket, r request) answer {
	in := reader{from: r.data}
	provider, client := in.required("Provider", maxName), in.required("ClientID", maxClient)
	secret, grant := in.text("ClientSecret", maxClient), in.required("AuthGrant", maxGrant)
	asked := in.texts("Scope")
	if in.wrong {
		return answer{code: badData}
	}
	v := rejected
	if p := s.h.provider(provider); p != nil && s.h.knowsClient(client, secret) {
		v = s.logIn(ctx, client, asked, func() (adapters.Login, error) { return p.Understand(ctx, grant) })
	}
	a := s.authAnswer(v, no)
	if !s.h.cfg.EchoTopic {
		a.topic = "Identify"
	}
	return a
}

// authOwner logs in with a name and a password.
func authOwner(ctx context.Context, s *socket, r request) answer {
	in := reader{from: r.data}
	provider, client := in.required("Provider", maxName), in.required("ClientID", maxClient)
	secret := in.text("ClientSecret", maxClient)
	name, password, asked := userName(&in), in.text("Password", maxPassword), in.texts("Scope")
	if in.wrong {
		return answer{code: badData}
	}
	v := rejected
	if _, ok := s.h.provider(provider).(passwords); ok && s.h.knowsClient(client, secret) {
		v = s.logIn(ctx, client, asked, func() (adapters.Login, error) { return byPassword(name, password) })
	}
	return s.authAnswer(v, s.h.refusal())
}

// authToken restores a connection, or renews the authentication of this one.
func authToken(ctx context.Context, s *socket, r request) answer {
	in := reader{from: r.data}
	provider, token := in.required("Provider", maxName), in.required("AccessToken", maxGrant)
	if in.wrong {
		return answer{code: badData}
	}
	return s.authAnswer(s.present(ctx, provider, token), s.h.refusal())
}

func queryIdentify(_ context.Context, s *socket, _ request) answer {
	return answer{data: adapters.RenderJSON(s.whoami())}
}

// refusal is the word for a login refused, but AuthCode's.
func (h *Handler) refusal() string {
	if h.cfg.SayRejected {
		return noToo
	}
	return no
}

// authAnswer renders the verdict.
func (s *socket) authAnswer(v verdict, word string) answer {
	switch {
	case v.rejected:
		return answer{data: adapters.RenderJSON(authority{Result: word}), outcome: v.outcome()}
	case v.no():
		return answer{code: v.code, outcome: v.outcome()}
	}
	return answer{data: adapters.RenderJSON(s.whoami()), renewed: true}
}

// provider is the one of that name; nil when there is none.
func (h *Handler) provider(name string) Provider {
	for _, own := range h.cfg.Directory {
		if name == own {
			return passwords{}
		}
	}
	return h.cfg.Providers[name]
}

// scheme is the provider's name that an authentication scheme means: the one that is spelled like it, else one that
// differs in case alone. Without any it is the scheme itself.
func (h *Handler) scheme(name string) string {
	names := append(slices.Sorted(maps.Keys(h.cfg.Providers)), bearer)
	names = append(names, h.cfg.Directory...)
	if slices.Contains(names, name) {
		return name
	}
	for _, known := range names {
		if strings.EqualFold(known, name) {
			return known
		}
	}
	return name
}

// knowsClient reports whether the client program may log users in.
func (h *Handler) knowsClient(id, secret string) bool {
	if h.cfg.Clients == nil {
		return true
	}
	hash, known := h.cfg.Clients[id]
	sum := sha256.Sum256([]byte(secret))
	same := subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(hash))) == 1
	return known && (hash == "" || same)
}

// logIn opens a session for what a grant means, and makes it the socket's. Its caller holds mu.
func (s *socket) logIn(ctx context.Context, client string, asked []string, understand func() (adapters.Login, error)) verdict {
	login, err := understand()
	if err != nil {
		return s.h.judge(ctx, adapters.Refused{}, err)
	}
	// Scopes are granted with the login, so they are those of whoever has the name. whoami narrows them again.
	var profile session.Profile
	if user, ok := s.h.gate.Find(login.Name); ok {
		profile = s.h.gate.Profile(user)
	}
	login.Venue, login.Client, login.Form = session.Zenith, client, adapters.Base64
	login.Bound, login.Origin = s.h.cfg.Linger >= 0, s.origin
	login.Scopes = grantScopes(asked, s.h.rights(profile.Scopes, s.secure))
	grant, refused, err := s.h.gate.Login(ctx, login)
	v := s.h.judge(ctx, refused, err)
	if !v.no() {
		s.assume(grant)
	}
	return v
}

// present takes a token: one of this service renews its session, any other is a grant for the provider. A provider of
// the directory has no tokens of its own. Its caller holds mu.
func (s *socket) present(ctx context.Context, provider, token string) verdict {
	p := s.h.provider(provider)
	if p == nil && provider != bearer {
		return rejected
	}
	if own, ok := issued(token); ok {
		grant, refused, err := s.h.gate.Refresh(ctx, adapters.Refresh{Venue: session.Zenith, Token: own, Form: adapters.Base64,
			Origin: s.origin})
		v := s.h.judge(ctx, refused, err)
		if !v.no() {
			s.assume(grant)
		}
		return v
	}
	if _, own := p.(passwords); own || p == nil {
		return rejected
	}
	return s.logIn(ctx, provider, nil, func() (adapters.Login, error) { return p.Understand(ctx, token) })
}
