/** What Airflow's UI puts at hand for its plugins: React, and the router of its pages. */

const { React, ReactRouterDOM } = globalThis;

export const h = React.createElement;
export const { Component } = React;
export const { Fragment, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } = React;
export const { Link, useParams, useSearchParams } = ReactRouterDOM;

/**
 * Return an absolute URL below Airflow's base path, which the page's <base> element holds.
 * @param {string} path relative, without a leading slash
 */
export const urlOf = (path) => new URL(path, document.baseURI).href;
