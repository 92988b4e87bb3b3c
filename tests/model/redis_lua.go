package model

import (
	"fmt"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

func compile(source string) (*lua.FunctionProto, error) {
	chunk, err := parse.Parse(strings.NewReader(source), "script")
	if err != nil {
		return nil, fmt.Errorf("parse script: %w", err)
	}
	return lua.Compile(chunk, "script")
}

// eval runs a script. args is evalsha, hash, number of keys, keys, values.
func (s *server) eval(hash string, args []string) (any, error) {
	n, err := strconv.Atoi(args[2])
	if err != nil || 3+n > len(args) {
		return nil, serverError("ERR value is not an integer or out of range")
	}
	s.lua.SetGlobal("KEYS", s.strings(args[3:3+n]))
	s.lua.SetGlobal("ARGV", s.strings(args[3+n:]))
	fn := s.lua.NewFunctionFromProto(s.sources[hash])
	if err := s.lua.CallByParam(lua.P{Fn: fn, NRet: 1, Protect: true}); err != nil {
		return nil, serverError("ERR " + err.Error())
	}
	reply := fromLua(s.lua.Get(-1))
	s.lua.Pop(1)
	return reply, nil
}

func (s *server) strings(values []string) *lua.LTable {
	t := s.lua.CreateTable(len(values), 0)
	for _, v := range values {
		t.Append(lua.LString(v))
	}
	return t
}

// luaCall is redis.call.
func (s *server) luaCall(l *lua.LState) int {
	args := make([]string, l.GetTop())
	for i := range args {
		switch v := l.Get(i + 1).(type) {
		case lua.LString:
			args[i] = string(v)
		case lua.LNumber:
			args[i] = number(v)
		default:
			l.RaiseError("Lua redis lib command arguments must be strings or integers")
			return 0
		}
	}
	args[0] = strings.ToLower(args[0])
	reply, err := s.command(args)
	if err != nil {
		l.RaiseError("%s", err.Error())
		return 0
	}
	l.Push(s.toLua(reply))
	return 1
}

func number(v lua.LNumber) string {
	if n := int64(v); lua.LNumber(n) == v {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatFloat(float64(v), 'g', 17, 64)
}

func (s *server) toLua(reply any) lua.LValue {
	switch v := reply.(type) {
	case nil:
		return lua.LFalse
	case int64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		t := s.lua.CreateTable(len(v), 0)
		for i := range v {
			t.RawSetInt(i+1, s.toLua(v[i]))
		}
		return t
	}
	return lua.LNil
}

// fromLua turns what a script returns into a reply: a list ends at its first nil.
func fromLua(value lua.LValue) any {
	switch v := value.(type) {
	case lua.LNumber:
		return int64(v)
	case lua.LString:
		return string(v)
	case lua.LBool:
		if v {
			return int64(1)
		}
		return nil
	case *lua.LTable:
		list := []any{}
		for i := 1; ; i++ {
			item := v.RawGetInt(i)
			if item == lua.LNil {
				return list
			}
			list = append(list, fromLua(item))
		}
	}
	return nil
}
