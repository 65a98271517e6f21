package zenith

import (
	"slices"
	"strings"
)

// allScopes are the access rights of the venue's Appendix A.
var allScopes = []string{"Zenith/Market", "Zenith/News", "Zenith/Trading", "Zenith/OrderPad"}

// dotted begins the older spelling of scopes, as in Paritech.Zenith.Market.
const dotted = "Paritech.Zenith"

// right is an access right below Zenith, its parts divided by dots: "Market", "Market.Data"; "*" is all of them. Empty:
// none of this venue's.
type right string

const everything right = "*"

// parseScope reads either spelling. "Zenith" and "Paritech.Zenith" alone stand for everything.
func parseScope(scope string) right {
	if scope == dotted || scope == zenith {
		return everything
	}
	rest, ok := strings.CutPrefix(scope, dotted+".")
	if !ok {
		if rest, ok = strings.CutPrefix(scope, zenith+"/"); !ok {
			return ""
		}
		rest = strings.ReplaceAll(rest, "/", ".")
	}
	if rest == string(everything) || slices.Contains(strings.Split(rest, "."), "") {
		return ""
	}
	return right(rest)
}

// slashed spells a right as Appendix A does.
func slashed(r right) string {
	if r == everything {
		return zenith
	}
	return zenith + "/" + strings.ReplaceAll(string(r), ".", "/")
}

// covers reports whether r is, or includes, the other.
func (r right) covers(other right) bool {
	return r == everything || r == other || strings.HasPrefix(string(other), string(r)+".")
}

// spell writes a right as the client spelt what it asked for.
func spell(like string, r right) string {
	if !strings.HasPrefix(like, dotted) {
		return slashed(r)
	}
	if r == everything {
		return dotted
	}
	return dotted + "." + string(r)
}

// rights are those that a user has: what the profile names, or else what everybody has. Rights of other venues do not
// count.
func (h *Handler) rights(profile []string, secure bool) []right {
	if len(profile) == 0 {
		profile = h.cfg.Scopes
	}
	var own []right
	for _, scope := range profile {
		r := parseScope(scope)
		switch {
		case r == "":
		case r == everything:
			for _, each := range allScopes {
				own = append(own, parseScope(each))
			}
		default:
			own = append(own, r)
		}
	}
	if h.cfg.TradingOverTLS && !secure {
		own = slices.DeleteFunc(own, func(r right) bool { return right("Trading").covers(r) || right("OrderPad").covers(r) })
	}
	return own
}

// maxGranted is how many scopes the book keeps of a session.
const maxGranted = 32

// grantScopes answers what a client asks for with what of it the user has, in the client's spelling: all below a scope
// that is asked for as a whole. Scopes of other services are passed over. Nothing asked: all there is.
func grantScopes(asked []string, own []right) []string {
	granted := []string{}
	add := func(scope string) {
		if !slices.Contains(granted, scope) && len(scope) <= maxScope && len(granted) < maxGranted {
			granted = append(granted, scope)
		}
	}
	if len(asked) == 0 {
		asked = []string{zenith}
	}
	for _, scope := range asked {
		wanted := parseScope(scope)
		if wanted == "" {
			continue
		}
		for _, r := range own {
			switch {
			case wanted.covers(r):
				add(spell(scope, r))
			case r.covers(wanted):
				add(spell(scope, wanted))
			}
		}
	}
	return granted
}
