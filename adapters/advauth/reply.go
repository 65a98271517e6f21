package advauth

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"rollbook/adapters"
)

// reply is an answer that is no refusal.
type reply struct {
	body  any    // one of the structs below
	proof *block // the server's, when the client asked for it
}

// schemas are the declarations that the venue's serializer puts on every root, in its order.
type schemas struct {
	XSD string `json:"-" xml:"xmlns:xsd,attr"`
	XSI string `json:"-" xml:"xmlns:xsi,attr"`
}

var bothSchemas = schemas{"http://www.w3.org/2001/XMLSchema", "http://www.w3.org/2001/XMLSchema-instance"}

// loginResp is what a login gives.
type loginResp struct {
	XMLName xml.Name `json:"-" xml:"Response"`
	schemas
	Token       string
	ExpireInSec int64
	ExpireDate  *date `json:",omitempty" xml:",omitempty"`
}

// challengeResp is what login/advAuthInit gives.
type challengeResp struct {
	XMLName xml.Name `json:"-" xml:"Response"`
	schemas
	RndB        string
	ExpireInSec int64
}

// whoAmIResp is what login/whoami gives.
type whoAmIResp struct {
	XMLName xml.Name `json:"-" xml:"Response"`
	schemas
	UserLogin   string
	ExpireInSec int64
	ExpireDate  *date `json:",omitempty" xml:",omitempty"`
}

// requestResult is a refusal with an error number.
type requestResult struct {
	XMLName xml.Name `json:"-" xml:"Response"`
	schemas
	Message       string
	Code          int
	ModelStateErr *modelState `json:",omitempty" xml:",omitempty"`
}

// modelState is a list of strings, which XML has as elements of their own.
type modelState struct {
	Errors []string `xml:"string"`
}

func (m *modelState) MarshalJSON() ([]byte, error) { return json.Marshal(m.Errors) }

// httpError is a refusal that is the framework's own: it has no number, and another root.
type httpError struct {
	XMLName xml.Name `json:"-" xml:"Error"`
	Message string
}

// date is the end of a token, in milliseconds of UTC.
type date struct {
	at   time.Time
	form DateForm
}

const isoDate = "2006-01-02T15:04:05.000Z"

func (d *date) MarshalText() ([]byte, error) { return []byte(d.at.UTC().Format(isoDate)), nil }

func (d *date) MarshalJSON() ([]byte, error) {
	if d.form == MicrosoftDate {
		return []byte(`"\/Date(` + strconv.FormatInt(d.at.UnixMilli(), 10) + `)\/"`), nil
	}
	return []byte(d.at.UTC().Format(`"` + isoDate + `"`)), nil
}

// date is nil where replies carry none.
func (h *Handler) date(at time.Time) *date {
	if h.cfg.ExpireDate == NoDate {
		return nil
	}
	return &date{at, h.cfg.ExpireDate}
}

// proofHeader carries the server's proof, so that the body stays as the venue documents it.
const proofHeader = "X-AdvAuth-RndA"

// write renders the reply, or the refusal when there is one.
func (h *Handler) write(c *call, answer reply, f *fault) {
	header, status, outcome := c.w.Header(), http.StatusOK, adapters.OutcomeGood
	if f != nil {
		outcome = f.outcome()
		answer, status = reply{body: f.body()}, f.status
		if f.status == http.StatusUnauthorized {
			header.Set("WWW-Authenticate", `AdvAuth realm="login"`) // RFC 9110, 15.5.2
		}
		adapters.RetryAfter(header, f.retry)
		if f.allow != "" {
			header.Set("Allow", f.allow)
		}
	}
	if answer.proof != nil {
		header[proofHeader] = []string{answer.proof.String()} // spelled as documented, for clients that look closely
	}
	rendered := render(c.form, answer.body)
	h.replies.Count(c.class, outcome)
	adapters.WriteBody(c.w, status, string(c.form)+"; charset=utf-8", rendered)
}

func (f *fault) body() any {
	if f.code == 0 {
		return httpError{Message: f.text}
	}
	body := requestResult{schemas: bothSchemas, Message: f.text, Code: f.code}
	if len(f.model) > 0 {
		body.ModelStateErr = &modelState{f.model}
	}
	return body
}

// render writes one of the bodies, without a declaration and without indentation.
func render(form mediaType, body any) []byte {
	if !form.isXML() {
		return adapters.RenderJSON(body)
	}
	text, err := xml.Marshal(body)
	if err != nil {
		panic("advauth: a reply has no XML form: " + err.Error())
	}
	return text
}

// printable is text as a reply can hold it: of what is no UTF-8, or no character of XML, little is left.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c == utf8.RuneError || c < ' ' {
			return '?'
		}
		return c
	}, text)
}
