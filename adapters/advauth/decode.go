package advauth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The decoders take text in UTF-8 without a byte order mark. Their errors are fit for a reply: they name members, never
// what stood in them.

var errNotJSON = errors.New("it is not one JSON object with members of the documented types")

// decodeJSON reads an entry by the rules of the venue's framework as far as they are JSON: names without regard to case,
// unknown members passed over (Result among them), of a name that stands twice the last.
func decodeJSON(text []byte) (entry, error) {
	var body *struct {
		UserLogin, ApiKey, RndA, RndB string
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&body); err != nil || body == nil {
		return entry{}, errNotJSON
	}
	if _, err := d.Token(); err != io.EOF {
		return entry{}, errNotJSON
	}
	return entry{login: body.UserLogin, apiKey: body.ApiKey, rndA: body.RndA, rndB: body.RndB}, nil
}

var (
	errNotXML   = errors.New("it is not well-formed XML in a supported encoding, without a document type")
	errNotRoot  = errors.New("it is not one element Request without a namespace")
	errNotPlain = errors.New("a member of it stands twice, or holds more than text")
)

// decodeXML reads an entry by the rules of the venue's serializer: members in any order, names with regard to case and
// in no namespace, everything else passed over (Result among it). It is stricter in what could be read in two ways: a
// member stands once and holds text alone.
func decodeXML(text []byte) (entry, error) {
	var e entry
	members := map[string]*string{"UserLogin": &e.login, "ApiKey": &e.apiKey, "RndA": &e.rndA, "RndB": &e.rndB}
	x := xmlReader{xml.NewDecoder(bytes.NewReader(text))}
	x.CharsetReader = passCharset
	root, err := x.root()
	if err != nil {
		return entry{}, err
	}
	if root.Name != (xml.Name{Local: "Request"}) {
		return entry{}, errNotRoot
	}
	for {
		token, err := x.next()
		if err != nil {
			return entry{}, err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return e, x.end()
		case xml.StartElement:
			to, known := members[token.Name.Local]
			switch {
			case !known || token.Name.Space != "":
				err = x.skip()
			case to == nil:
				err = errNotPlain
			default:
				members[token.Name.Local] = nil
				*to, err = x.text()
			}
			if err != nil {
				return entry{}, err
			}
		}
	}
}

// passCharset accepts the names of encodings whose text arrives here as UTF-8. That "utf-16" stands over UTF-8 is
// common: .NET writes it into text that is encoded later.
func passCharset(label string, text io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "utf-8", "us-ascii", "utf-16":
		return text, nil
	}
	return nil, fmt.Errorf("encoding %q", label)
}

// xmlReader reads tokens, and refuses what an entry has no use for.
type xmlReader struct{ *xml.Decoder }

func (x xmlReader) next() (xml.Token, error) {
	token, err := x.Token()
	if err != nil {
		return nil, errNotXML
	}
	if _, declaration := token.(xml.Directive); declaration {
		return nil, errNotXML
	}
	return token, nil
}

// root finds the first element. Text before it is refused.
func (x xmlReader) root() (xml.StartElement, error) {
	for {
		token, err := x.next()
		if err != nil {
			return xml.StartElement{}, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			return token, nil
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return xml.StartElement{}, errNotRoot
			}
		}
	}
}

// skip reads to the end of an element.
func (x xmlReader) skip() error {
	for depth := 1; depth > 0; {
		token, err := x.next()
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

// text reads to the end of an element that holds text alone, also in pieces of CDATA.
func (x xmlReader) text() (string, error) {
	var text []byte
	for {
		token, err := x.next()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.CharData:
			text = append(text, token...)
		case xml.EndElement:
			return string(text), nil
		default:
			return "", errNotPlain
		}
	}
}

// end reads what follows the root: comments and white space alone.
func (x xmlReader) end() error {
	for {
		token, err := x.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errNotXML
		}
		switch token := token.(type) {
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return errNotRoot
			}
		case xml.StartElement, xml.Directive:
			return errNotRoot
		}
	}
}
