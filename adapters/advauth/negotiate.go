package advauth

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// mediaType is a type without parameters, in lower case; in an Accept header also a range.
type mediaType string

// The types of the venue's two formatters, in their order: the first of each is what it writes when nothing else says.
var (
	jsonTypes = []mediaType{"application/json", "text/json"}
	xmlTypes  = []mediaType{"application/xml", "text/xml"}
)

func (m mediaType) in(list []mediaType) bool { return slices.Contains(list, m) }

func (m mediaType) isXML() bool { return m.in(xmlTypes) }

func (m mediaType) kind() string { kind, _, _ := strings.Cut(string(m), "/"); return kind }

// breadth is 0 for a type, 1 for "text/*", 2 for "*/*".
func (m mediaType) breadth() int {
	switch {
	case m == "*/*":
		return 2
	case strings.HasSuffix(string(m), "/*"):
		return 1
	}
	return 0
}

func (m mediaType) covers(other mediaType) bool {
	return m == other || m == "*/*" || m.breadth() == 1 && m.kind() == other.kind()
}

// accepted is one value of an Accept header.
type accepted struct {
	mediaType
	quality float64
}

// match is what one formatter can offer.
type match struct {
	mediaType
	quality float64
}

// negotiate chooses the reply's type as the framework's default negotiator does (ASP.NET Web API 2): by Accept, else by
// the request's own type, else JSON. A formatter's first accepted type counts; between the formatters the strictly better
// quality wins, so JSON wins every tie wherever it stands. Nothing is ever "not acceptable".
func negotiate(header http.Header) mediaType {
	accept := parseAccept(header.Values("Accept"))
	var best [3]*match // by breadth of what was accepted
	for _, types := range [][]mediaType{jsonTypes, xmlTypes} {
		if m, breadth, ok := acceptedOf(types, accept); ok && (best[breadth] == nil || m.quality > best[breadth].quality) {
			best[breadth] = &m
		}
	}
	var chosen *match
	for _, m := range best {
		if m != nil && (chosen == nil || m.quality > chosen.quality) {
			chosen = m
		}
	}
	if chosen != nil {
		return chosen.mediaType
	}
	name, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if own := mediaType(name); own.in(jsonTypes) || own.in(xmlTypes) {
		return own
	}
	return jsonTypes[0]
}

// acceptedOf is the first of the formatter's types that the client accepts, in the client's order.
func acceptedOf(types []mediaType, accept []accepted) (_ match, breadth int, ok bool) {
	for _, a := range accept {
		for _, m := range types {
			if a.covers(m) {
				return match{m, a.quality}, a.breadth(), true
			}
		}
	}
	return match{}, 0, false
}

// maxAccept bounds the values that are looked at.
const maxAccept = 64

// parseAccept lists what is accepted, the best first: by quality, then types before ranges, then as they stand. What
// cannot be parsed is left out.
func parseAccept(lines []string) []accepted {
	var list []accepted
	for _, value := range splitOutsideQuotes(strings.Join(lines, ",")) {
		name, parameters, err := mime.ParseMediaType(value)
		kind, sub, ok := strings.Cut(name, "/")
		if err != nil || !ok || sub == "" || kind == "*" && sub != "*" {
			continue
		}
		quality := 1.0
		if q, given := parameters["q"]; given {
			if quality, err = strconv.ParseFloat(q, 64); err != nil || !(quality >= 0 && quality <= 1) {
				continue
			}
		}
		if list = append(list, accepted{mediaType(name), quality}); len(list) == maxAccept {
			break
		}
	}
	slices.SortStableFunc(list, func(a, b accepted) int {
		return cmp.Or(cmp.Compare(b.quality, a.quality), cmp.Compare(a.breadth(), b.breadth()))
	})
	return list
}

// splitOutsideQuotes splits a header at its commas.
func splitOutsideQuotes(text string) []string {
	var list []string
	quoted, start := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			list, start = append(list, text[start:i]), i+1
		}
	}
	return append(list, text[start:])
}
