{% macro _replace_errors(errors, source, unique_key, errors_sql) %}
  {%- set keys = [unique_key] if unique_key is string else unique_key -%}
  create table if not exists {{ errors }} as (
    select * from ({{ errors_sql }}) where false
  );
  {#- A table of an earlier version lacks the newer columns. -#}
  alter table {{ errors }} add column if not exists status_code integer;
  alter table {{ errors }} add column if not exists sent_with varchar;
  alter table {{ errors }} add column if not exists retry_with varchar;
  delete from {{ errors }} as errors
  using {{ source }} as source
  where {% for key in keys -%}
    errors.{{ adapter.quote(key) }} = source.{{ adapter.quote(key) }}
    {%- if not loop.last %} and {% endif %}
  {%- endfor %};
  insert into {{ errors }} by name {{ errors_sql }}
{% endmacro %}
