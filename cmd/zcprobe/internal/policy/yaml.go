package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxFile is the size in bytes above which a policy is not read. A policy that
// names every check on every device of a large host stays below a tenth of it.
const MaxFile = 256 << 10

// maxDepth bounds the nesting of flow collections; the deepest policy has four
// levels. The parser recurses, and a hostile file could nest 200,000.
const maxDepth = 32

// document parses src into the mapping at its top. Only YAML's plain part is
// accepted: no second document, anchors, aliases, tags or merge keys, which a
// policy has no use for and which let a small file stand for a huge one.
func (r *reader) document(src []byte) *ast.MappingNode {
	if len(src) > MaxFile {
		r.problem(nil, "larger than %d KiB", MaxFile>>10)
		return nil
	}
	if i := slices.IndexFunc(src, func(b byte) bool { return b < 0x20 && b != '\n' && b != '\r' && b != '\t' }); i >= 0 {
		line := 1 + strings.Count(string(src[:i]), "\n")
		r.problems = append(r.problems, Problem{Pos{line, i - strings.LastIndexByte(string(src[:i]), '\n')}, "control character"})
		return nil
	}
	if p, deep := tooDeep(src); deep {
		r.problems = append(r.problems, Problem{p, fmt.Sprintf("nested deeper than %d levels", maxDepth)})
		return nil
	}
	f, err := parse(src)
	if err != nil {
		r.syntax(err)
		return nil
	}
	var body ast.Node
	for _, d := range f.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		if body != nil {
			r.problem(d.Body, "a second document; a policy is one")
			return nil
		}
		body = d.Body
	}
	if body == nil {
		r.problem(nil, "empty; a policy starts with apiVersion: %s", APIVersion)
		return nil
	}
	return r.asMapping(body, "a policy")
}

// parse calls the YAML parser. Policies may come from strangers, and a parser
// that meets what its author never saw is no reason to die: a panic there is
// a file that could not be read.
func parse(src []byte) (f *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("not readable as YAML: %v", p)
		}
	}()
	return parser.ParseBytes(src, 0)
}

// tooDeep finds brackets nested, or list entries strung together on one line,
// beyond maxDepth; on both the parser takes time that grows with the square of
// their number. It knows nothing of quotes: a policy holds no text with dozens
// of open brackets either.
func tooDeep(src []byte) (Pos, bool) {
	depth, entries, p := 0, 0, Pos{1, 0}
	for i, b := range src {
		p.Column++
		alone := i+1 < len(src) && (src[i+1] == ' ' || src[i+1] == '\t')
		switch b {
		case '\n':
			p, entries = Pos{p.Line + 1, 0}, 0
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case '-', '?', ':':
			if alone { // not a ruler of dashes
				entries++
			}
		case ' ', '\t':
		default:
			entries = 0
		}
		if depth > maxDepth || entries > maxDepth {
			return p, true
		}
	}
	return Pos{}, false
}

// syntax records an error of the parser, which carries the token it stopped at.
func (r *reader) syntax(err error) {
	var at interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &at) {
		r.problems = append(r.problems, Problem{posOf(at.GetToken()), at.GetMessage()})
		return
	}
	r.problem(nil, "%v", err)
}

// reader turns syntax nodes into a policy and collects what is wrong.
type reader struct {
	problems []Problem
	ids      []ID // every check there is
}

func (r *reader) problem(n ast.Node, format string, args ...any) {
	p := Pos{1, 1}
	if n != nil {
		p = posOf(n.GetToken())
	}
	r.problems = append(r.problems, Problem{p, fmt.Sprintf(format, args...)})
}

func posOf(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{1, 1}
	}
	return Pos{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// nodePos is where a node begins. The token of a mapping is the colon of its
// first pair, so its first key is taken.
func nodePos(n ast.Node) Pos {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return posOf(n.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return posOf(n.Key.GetToken())
	}
	return posOf(n.GetToken())
}

func (r *reader) asMapping(n ast.Node, what string) *ast.MappingNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n
	case *ast.MappingValueNode: // older parsers give a single pair bare
		return ast.Mapping(n.Start, false, n)
	}
	r.at(nodePos(n), "%s is a mapping, not %s", what, kindOf(n))
	return nil
}

func (r *reader) at(p Pos, format string, args ...any) {
	r.problems = append(r.problems, Problem{p, fmt.Sprintf(format, args...)})
}

// field reads the value of one key of a mapping.
type field struct {
	key  string
	read func(ast.Node)
}

// mapping reads the keys of n with fields and complains about all others.
func (r *reader) mapping(n ast.Node, what string, fields []field) {
	m := r.asMapping(n, what)
	if m == nil {
		return
	}
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	for _, v := range m.Values {
		k, ok := v.Key.(*ast.StringNode)
		if !ok {
			r.problem(v.Key, "%s is no key of %s", kindOf(v.Key), what)
			continue
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == k.Value })
		switch {
		case i < 0:
			r.problem(k, "unknown key %q in %s%s", k.Value, what, DidYouMean(k.Value, keys))
		case isNull(v.Value):
			r.problem(k, "%s has no value", k.Value)
		default:
			fields[i].read(v.Value)
		}
	}
}

func isNull(n ast.Node) bool {
	if n == nil {
		return true
	}
	_, null := n.(*ast.NullNode)
	return null
}

// each calls f for every element of a list.
func (r *reader) each(n ast.Node, what string, f func(ast.Node)) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.at(nodePos(n), "%s is a list, not %s", what, kindOf(n))
		return
	}
	for i, v := range s.Values {
		if isNull(v) {
			p := posOf(s.Start)
			if i < len(s.Entries) && s.Entries[i] != nil {
				p = posOf(s.Entries[i].Start)
			}
			r.at(p, "%s has an empty entry", what)
			continue
		}
		f(v)
	}
}

// str reads a string that holds something.
func (r *reader) str(n ast.Node, what string) (string, bool) {
	s := ""
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	default:
		r.at(nodePos(n), "%s is a string, not %s", what, kindOf(n))
		return "", false
	}
	if strings.TrimSpace(s) == "" {
		r.problem(n, "%s is empty", what)
		return "", false
	}
	return s, true
}

// name reads a string that may look like a number: a device can be called 5.
func (r *reader) name(n ast.Node, what string) (string, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return r.str(n, what)
}

// number reads an integer from least to most.
func (r *reader) number(n ast.Node, what string, least, most uint64) (uint64, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		r.at(nodePos(n), "%s is a number, not %s", what, kindOf(n))
		return 0, false
	}
	var v uint64
	switch x := i.Value.(type) {
	case uint64:
		v, ok = x, true
	case int64:
		v, ok = uint64(x), x >= 0
	}
	if !ok || v < least || v > most {
		r.problem(n, "%s is a number from %d to %d, not %s", what, least, most, i.Token.Value)
		return 0, false
	}
	return v, true
}

// quantity reads a number, or a string that conv understands.
func (r *reader) quantity(n ast.Node, what string, conv func(string) (uint64, error)) (uint64, bool) {
	text := ""
	switch n := n.(type) {
	case *ast.IntegerNode:
		text = n.Token.Value
	case *ast.StringNode:
		text = n.Value
	default:
		r.at(nodePos(n), "%s is a number or a string, not %s", what, kindOf(n))
		return 0, false
	}
	v, err := conv(text)
	if err != nil {
		r.problem(n, "%s: %v", what, err)
		return 0, false
	}
	return v, true
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor, alias or merge key (not supported)"
	case *ast.TagNode:
		return "a tag (not supported)"
	}
	return "something else"
}
