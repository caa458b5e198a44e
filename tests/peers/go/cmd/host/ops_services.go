package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// health checks the plugin's service, the server as a whole and a service that
// does not exist. Each answer is a reply of its own.
func health(c *client, request callOptions) (reply, error) {
	conn, err := c.conn()
	if err != nil {
		return nil, err
	}
	answers := reply{}
	for key, service := range map[string]string{"plugin": "plugin", "server": "", "unknown": "no.such.Service"} {
		call, err := request.newCall()
		if err != nil {
			return nil, err
		}
		defer call.cancel()
		response, err := grpc_health_v1.NewHealthClient(conn).Check(call.ctx,
			&grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			answers[key] = failure(err)
		} else {
			answers[key] = reply{"ok": true, "status": response.Status.String()}
		}
	}
	return answers, nil
}

// reflectServices asks both versions of the reflection service for the list of
// services and for the file that declares kv.KV.
func reflectServices(c *client, request callOptions) (reply, error) {
	conn, err := c.conn()
	if err != nil {
		return nil, err
	}
	answers := reply{}
	for _, version := range []string{"v1", "v1alpha"} {
		call, err := request.newCall()
		if err != nil {
			return nil, err
		}
		defer call.cancel()
		answer, err := reflectVersion(call.ctx, conn, version)
		if err != nil {
			answer = failure(err)
		} else {
			answer["ok"] = true
		}
		answers[version] = answer
	}
	return answers, nil
}

func reflectVersion(ctx context.Context, conn *grpc.ClientConn, version string) (reply, error) {
	stream, err := conn.NewStream(ctx,
		&grpc.StreamDesc{StreamName: "ServerReflectionInfo", ClientStreams: true, ServerStreams: true},
		"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
	if err != nil {
		return nil, err
	}
	// The messages of both versions are the same on the wire.
	ask := func(request *grpc_reflection_v1.ServerReflectionRequest) (*grpc_reflection_v1.ServerReflectionResponse, error) {
		// After a failed send, the reason comes with RecvMsg.
		_ = stream.SendMsg(request)
		response := &grpc_reflection_v1.ServerReflectionResponse{}
		return response, stream.RecvMsg(response)
	}

	listed, err := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, err
	}
	services := []string{}
	for _, service := range listed.GetListServicesResponse().GetService() {
		services = append(services, service.Name)
	}

	resolved, err := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "kv.KV"},
	})
	if err != nil {
		return nil, err
	}
	files := []reply{}
	for _, serialized := range resolved.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(serialized, &file); err != nil {
			return nil, err
		}
		methods := []string{}
		for _, service := range file.Service {
			for _, method := range service.Method {
				methods = append(methods, service.GetName()+"/"+method.GetName())
			}
		}
		files = append(files, reply{"name": file.GetName(), "package": file.GetPackage(), "methods": methods})
	}
	return reply{
		"services":      services,
		"kv_files":      files,
		"kv_error":      resolved.GetErrorResponse().GetErrorMessage(),
		"kv_error_code": resolved.GetErrorResponse().GetErrorCode(),
	}, nil
}
