// The server's answers. All of them are JSON.

async function read(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    body = {};
  }
  if (!response.ok) {
    const said = typeof body.detail === "string" ? body.detail : `the server says ${response.status}`;
    throw new Error(said);
  }
  return body;
}

/** What is at a path, with a query of those values that are not empty. */
export async function get(path, values = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  let response;
  try {
    response = await fetch(`/api/${path}${text ? `?${text}` : ""}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: `tracestill view` has ended");
  }
  return read(response);
}

export async function post(path, values) {
  const response = await fetch(`/api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(values),
  });
  return read(response);
}
