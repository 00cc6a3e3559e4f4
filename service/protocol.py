"""HTTP as uvicorn reads it by httptools, but what is no HTTP is answered by a problem document like every other error."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.observing import HEADERS, new_request_id
from service.problems import problem


class Http(HttpToolsProtocol):
    """Of what cannot be read, a method that nobody knows too, neither a route nor the log ever learns."""

    def send_400_response(self, msg: str) -> None:
        request_id = new_request_id()
        answer = problem(400, "the request is not HTTP/1.1 as this service reads it", request_id)
        headers = [*HEADERS, *answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[400] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()
