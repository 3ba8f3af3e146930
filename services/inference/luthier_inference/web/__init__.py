"""HTTP beside gRPC: `POST /v1/audio/generate` as vLLM-Omni names things, with progress as server-sent events, and a
page to generate with.

Every request is a call of the service's own gRPC server with the caller's credentials (`calls`), so that admission,
rights, limits and errors are those of gRPC. Imported only where LUTHIER_WEB_ADDRESS is set.
"""
